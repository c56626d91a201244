// Package pgserver starts PostgreSQL for tests: a throw-away cluster in a temporary folder, run without privileges, that
// listens on a free port of this machine. Tests that only need a database share one cluster a test program; those that
// kill it start their own. Only tests import it.
package pgserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Server is a cluster.
type Server struct {
	bin, dir string
	port     int
	user     *syscall.Credential
	cmd      *exec.Cmd
	done     chan struct{} // closed when the process has ended
	out      *bytes.Buffer
}

// superuser is the cluster's only user until a test makes others.
const superuser = "ostro"

const patience = 30 * time.Second

// New makes and starts a cluster that is removed when the test ends.
func New(t testing.TB) *Server {
	t.Helper()
	s, err := create()
	if errors.Is(err, errNotInstalled) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.remove)
	return s
}

var shared struct {
	once sync.Once
	s    *Server
	err  error
}

// Main runs a package's tests and removes the cluster they shared.
func Main(m *testing.M) int {
	code := m.Run()
	if shared.s != nil {
		shared.s.remove()
	}
	return code
}

var databases atomic.Int64

// Database makes an empty database on the cluster that the tests of a program share, and returns its address. The program's
// TestMain must end with Main.
func Database(t testing.TB) string {
	t.Helper()
	shared.once.Do(func() { shared.s, shared.err = create() })
	if errors.Is(shared.err, errNotInstalled) {
		t.Skip(shared.err)
	}
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.s.Database(t)
}

// Database makes an empty database and returns its address.
func (s *Server) Database(t testing.TB) string {
	t.Helper()
	name := fmt.Sprintf("test%d", databases.Add(1))
	s.Exec(t, s.URL("postgres"), "CREATE DATABASE "+name)
	t.Cleanup(func() { // on a disk in memory each would stay
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if conn, err := pgx.Connect(ctx, s.URL("postgres")); err == nil {
			_, _ = conn.Exec(ctx, "DROP DATABASE "+name+" WITH (FORCE)")
			_ = conn.Close(ctx)
		}
	})
	return s.URL(name)
}

// URL is the address of a database of the cluster.
func (s *Server) URL(database string) string {
	u := url.URL{Scheme: "postgresql", User: url.User(superuser), Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)),
		Path: "/" + database, RawQuery: "sslmode=disable"}
	return u.String()
}

// Exec runs statements as a client of its own.
func (s *Server) Exec(t testing.TB, address string, statements ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(ctx) }()
	for _, text := range statements {
		if _, err := conn.Exec(ctx, text); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
	}
}

// Kill ends every process of the cluster as a power cut would.
func (s *Server) Kill() { s.end(syscall.SIGKILL) }

// Stop ends the cluster, breaking off what its clients do.
func (s *Server) Stop() { s.end(syscall.SIGINT) }

// Start starts the cluster again and returns when it takes connections.
func (s *Server) Start(t testing.TB) {
	t.Helper()
	if err := s.start(); err != nil {
		t.Fatal(err)
	}
}

// Await returns when the cluster takes connections, as it does after it has recovered from the end of one of its processes.
func (s *Server) Await(t testing.TB) {
	t.Helper()
	if err := s.await(); err != nil {
		t.Fatal(err)
	}
}

var errNotInstalled = errors.New("PostgreSQL is not installed (make test installs it)")

// programs is the folder of the newest PostgreSQL installed.
func programs() (string, error) {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	slices.SortFunc(found, func(a, b string) int { return version(a) - version(b) })
	if len(found) > 0 {
		return filepath.Dir(found[len(found)-1]), nil
	}
	if path, err := exec.LookPath("initdb"); err == nil {
		return filepath.Dir(path), nil
	}
	return "", errNotInstalled
}

func version(initdb string) int {
	n, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(initdb))))
	return n
}

func create() (_ *Server, err error) {
	s := &Server{}
	if s.bin, err = programs(); err != nil {
		return nil, err
	}
	if s.dir, err = os.MkdirTemp("", "ostro-postgresql-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.remove()
		}
	}()
	if err := s.unprivileged(); err != nil {
		return nil, err
	}
	initdb := s.command("initdb", "-D", s.data(), "-U", superuser, "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync")
	if out, err := initdb.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("initdb: %w\n%s", err, out)
	}
	if s.port, err = freePort(); err != nil {
		return nil, err
	}
	return s, s.start()
}

// Dir is the cluster's data folder, with its configuration.
func (s *Server) Dir() string { return s.data() }

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

// unprivileged chooses another user when this one is root, whom PostgreSQL does not serve.
func (s *Server) unprivileged() error {
	if os.Getuid() != 0 {
		return nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return fmt.Errorf("find a user for PostgreSQL: %w", err)
	}
	uid, err1 := strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(u.Gid)
	s.user = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	return errors.Join(err1, err2, os.Chown(s.dir, uid, gid))
}

func (s *Server) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(s.bin, name), args...) //nolint:noctx // it ends with the test program
	cmd.Dir = s.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.user, Setpgid: true}
	return cmd
}

func (s *Server) start() error {
	s.out, s.done = new(bytes.Buffer), make(chan struct{})
	s.cmd = s.command("postgres", "-D", s.data(), "-p", strconv.Itoa(s.port), "-h", "127.0.0.1", "-k", s.dir,
		"-c", "shared_buffers=64MB", "-c", "max_connections=200")
	s.cmd.Stdout, s.cmd.Stderr = s.out, s.out
	s.cmd.SysProcAttr.Pdeathsig = syscall.SIGINT // it must not outlive the test program, however that ends
	started := make(chan error)
	go func() {
		// The signal is bound to the thread that started the process: it stays here.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(s.done)
		err := s.cmd.Start()
		started <- err
		if err == nil {
			_ = s.cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("start PostgreSQL: %w", err)
	}
	return s.await()
}

func (s *Server) await() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		conn, err := pgx.Connect(ctx, s.URL("postgres"))
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-s.done:
			return fmt.Errorf("PostgreSQL ended:\n%s", s.out)
		case <-ctx.Done():
			return fmt.Errorf("PostgreSQL does not answer: %w", err)
		case <-tick.C:
		}
	}
}

func (s *Server) end(sig syscall.Signal) {
	if s.cmd == nil || s.cmd.Process == nil {
		return
	}
	pid := s.cmd.Process.Pid
	if sig == syscall.SIGKILL {
		pid = -pid // the whole group: nothing is left to tidy up
	}
	_ = syscall.Kill(pid, sig)
	<-s.done
	if sig == syscall.SIGKILL {
		s.killBackends()
	}
}

// killBackends ends processes of the cluster that have made a group of their own, as PostgreSQL's do.
func (s *Server) killBackends() {
	deadline := time.Now().Add(patience)
	for left := true; left && time.Now().Before(deadline); {
		left = false
		links, _ := filepath.Glob("/proc/[0-9]*/cwd")
		for _, link := range links {
			if at, err := os.Readlink(link); err != nil || at != s.data() {
				continue
			}
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(link)))
			if err == nil && syscall.Kill(pid, syscall.SIGKILL) == nil {
				left = true
			}
		}
		runtime.Gosched()
	}
}

func (s *Server) remove() {
	s.end(syscall.SIGINT)
	_ = os.RemoveAll(s.dir)
}

func freePort() (int, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close()
}
