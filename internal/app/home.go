package app

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"ostro.dev/ostro/internal/worker"
)

// home is the folder that holds all state.
type home string

func (h home) path(parts ...string) string {
	return filepath.Join(append([]string{string(h)}, parts...)...)
}

// prepare makes the folders, readable by their owner only, unless the worker could not listen in them.
func (h home) prepare() error {
	if err := worker.CheckSocketPath(worker.SocketPath(string(h))); err != nil {
		return fmt.Errorf("use the home folder %s: %w", h, err)
	}
	for _, dir := range []string{"", "run", "logs", "spool", "bundles", "runtime", "blobs"} {
		if err := os.MkdirAll(h.path(dir), 0o700); err != nil {
			return fmt.Errorf("%w: make the home folder %s: %w", ErrHomeUnusable, h, err)
		}
	}
	return nil
}

// lock takes the home for this process until the returned file is closed: two servers on one home would both schedule.
func (h home) lock() (*os.File, error) {
	path := h.path("run", "server.lock")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the home folder: %w", err)
	}
	if err := takeLock(f); err != nil {
		defer f.Close()
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		by := "another process"
		if pid := lockedBy(f); pid > 0 {
			by = fmt.Sprintf("process %d", pid)
		}
		return nil, fmt.Errorf("%w: %s serves %s; stop it, use another --home, or take its place with --replace", ErrHomeInUse, by, h)
	}
	err = f.Truncate(0)
	if err == nil {
		_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock the home folder: %w", err), f.Close())
	}
	return f, nil
}

// takeLock locks a file. When the process that holds the lock by its own account is gone, the lock is about to be free: a
// child that a killed server had just forked holds it for the moment until it executes its program. Whoever only looks
// whether it is held, holds it for less than a glance.
func takeLock(f *os.File) error {
	const patience, glance, pause = 3 * time.Second, 50 * time.Millisecond, 5 * time.Millisecond
	for waited := time.Duration(0); ; waited += pause {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EWOULDBLOCK) || waited >= patience {
			return err
		}
		if pid := lockedBy(f); waited >= glance && (pid <= 0 || syscall.Kill(pid, 0) == nil) {
			return err
		}
		time.Sleep(pause)
	}
}

// lockedBy is the process id that a lock file names; 0 when it names none.
func lockedBy(f *os.File) int {
	b := make([]byte, 32)
	n, _ := f.ReadAt(b, 0)
	pid, err := strconv.Atoi(string(bytes.TrimSpace(b[:n])))
	if err != nil {
		return 0
	}
	return pid
}

// ErrHomeInUse: another server runs on the same home folder.
var ErrHomeInUse = errors.New("the home folder is in use")

// ErrHomeUnusable: the home folder cannot be made.
var ErrHomeUnusable = errors.New("the home folder cannot be used")

// ErrPortInUse: another program listens on the port.
var ErrPortInUse = errors.New("the port is in use")

// token reads the token that local users authenticate with, or makes it.
func (h home) token() (string, error) {
	path := h.path("token")
	for range 2 {
		b, err := os.ReadFile(path)
		if err == nil {
			if t := strings.TrimSpace(string(b)); t != "" {
				return t, nil
			}
			return "", fmt.Errorf("%s is empty: delete it, and the next start makes a new token", path)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("read the token: %w", err)
		}
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return "", fmt.Errorf("make the token: %w", err)
		}
		_, err = f.WriteString(rand.Text() + rand.Text() + "\n")
		if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
			_ = os.Remove(path) // the next start makes a whole one
			return "", fmt.Errorf("write the token: %w", err)
		}
	}
	return "", fmt.Errorf("read the token: %s comes and goes", path)
}

// id is what the home is known by in a database that several homes may use, one after the other. It is made once.
func (h home) id() (string, error) {
	path := h.path("home.id")
	b, err := os.ReadFile(path)
	if err == nil && len(bytes.TrimSpace(b)) > 0 {
		return string(bytes.TrimSpace(b)), nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("read the home's id: %w", err)
	}
	id := rand.Text()
	if err := os.WriteFile(path, []byte(id+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("write the home's id: %w", err)
	}
	return id, nil
}

// serverFile is HOME/run/server.json: where the home's server answers, for other commands.
type serverFile struct {
	URL string `json:"url"`
	PID int    `json:"pid"`
	// DAGs and Python are what the server uses, whatever named it.
	DAGs   string `json:"dags"`
	Python string `json:"python"`
}

// announce writes where the server answers.
func (a *App) announce() error {
	file := a.home.path("run", "server.json")
	b, err := json.Marshal(serverFile{URL: a.URL(), PID: os.Getpid(), DAGs: shown(a.cfg.DAGs), Python: a.cfg.Python})
	if err == nil {
		err = os.WriteFile(file+".new", append(b, '\n'), 0o600)
	}
	if err == nil {
		err = os.Rename(file+".new", file)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	a.announced = true
	return nil
}

// keepAnnouncing tries until it works: a full disk has room again one day.
func (a *App) keepAnnouncing(ctx context.Context) error {
	again := time.NewTicker(announceEvery)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-again.C:
			if a.announce() == nil {
				return nil
			}
		}
	}
}

const announceEvery = 2 * time.Second

// withdraw removes what announce has written.
func (h home) withdraw() error {
	if err := os.Remove(h.path("run", "server.json")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("end the announcement of the server: %w", err)
	}
	return nil
}

// listen takes the port, or says who has it.
func listen(host string, port int) (net.Listener, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(context.Background(), "tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("%w: port %d is in use by %s, use --port", ErrPortInUse, port, ownerOf(port))
	}
	if err != nil {
		return nil, fmt.Errorf("listen on port %d of %s: %w", port, host, err)
	}
	return l, nil
}

// ownerOf names the process that listens on a port, as far as this user may know.
func ownerOf(port int) string {
	fd := descriptor("/proc/[0-9]*/fd/*", listeners(port))
	if fd == "" {
		return "another program"
	}
	pid := strings.Split(fd, "/")[2]
	name, _ := os.ReadFile("/proc/" + pid + "/comm")
	return fmt.Sprintf("%s (process %s)", strings.TrimSpace(string(name)), pid)
}

// listensOn reports whether a process listens on a port.
func listensOn(pid, port int) bool {
	return descriptor(fmt.Sprintf("/proc/%d/fd/*", pid), listeners(port)) != ""
}

// descriptor is the first file descriptor of the pattern that is one of the sockets; empty when none is.
func descriptor(pattern string, sockets map[string]bool) string {
	all, _ := filepath.Glob(pattern)
	for _, fd := range all {
		if target, err := os.Readlink(fd); err == nil && sockets[target] {
			return fd
		}
	}
	return ""
}

// listeners are the sockets that listen on a port, as links in /proc/PID/fd show them.
func listeners(port int) map[string]bool {
	out := map[string]bool{}
	suffix := fmt.Sprintf(":%04X", port)
	for _, file := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		b, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(b)) {
			f := strings.Fields(line)
			if len(f) > 9 && strings.HasSuffix(f[1], suffix) && f[3] == "0A" {
				out["socket:["+f[9]+"]"] = true
			}
		}
	}
	return out
}
