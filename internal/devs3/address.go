package devs3

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// The first port is chosen below those that systems give to outgoing connections, one of which might have it when the server
// starts again.
const firstPort, lastPort = 20_000, 32_000

// patience is how long a start waits for its port, or for its folder.
const patience = 2 * time.Second

// hold marks the folder as served, by a lock that ends with the process. A guest only looks, and gets nil when it is.
func hold(ctx context.Context, o Options) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(o.Dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the S3 folder: %w", err)
	}
	if o.Guest {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB)
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, f.Close()
		}
		return f, errors.Join(err, syscall.Flock(int(f.Fd()), syscall.LOCK_UN))
	}
	err = retry(ctx, syscall.EWOULDBLOCK, func() error { return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) })
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock the S3 folder %s (does another server serve it?): %w", o.Dir, err), f.Close())
	}
	return f, nil
}

// retry does something until it no longer fails for a reason that passes, or patience ends.
func retry(ctx context.Context, passing error, do func() error) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	end := time.Now().Add(patience)
	for {
		err := do()
		if !errors.Is(err, passing) || time.Now().After(end) {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// guestOf is the endpoint of the server that serves the folder.
func guestOf(o Options, keys credentials) (*Server, error) {
	port, err := os.ReadFile(filepath.Join(o.Dir, "port"))
	if err != nil {
		return nil, fmt.Errorf("find the S3 endpoint of the server: %w", err)
	}
	return &Server{url: "http://" + net.JoinHostPort("127.0.0.1", strings.TrimSpace(string(port))), region: o.Region, keys: keys}, nil
}

// listen takes the asked port; for any port, the one of the last time, and remembers it. Tasks that outlived the server
// know no other.
func listen(ctx context.Context, o Options) (net.Listener, error) {
	addr := o.Addr
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("listen for S3 on %q: %w", addr, err)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return nil, fmt.Errorf("listen for S3 on %s: it serves this machine only; use a loopback address such as 127.0.0.1", addr)
	}
	if o.Guest {
		return take(ctx, host, port)
	}
	remembered := filepath.Join(o.Dir, "port")
	b, _ := os.ReadFile(remembered)
	last := strings.TrimSpace(string(b))
	listener, err := choose(ctx, host, port, last)
	if err != nil {
		return nil, err
	}
	_, taken, _ := net.SplitHostPort(listener.Addr().String())
	if last != "" && taken != last {
		o.Logger.Warn("the S3 endpoint has another port than before: tasks that are still running know the old address, so what they "+
			"read and write at s3://… fails; clear such tasks, or free the old port and restart before they go on",
			"before", last, "now", taken, "reason", reasonFor(port))
	}
	if err := os.WriteFile(remembered, []byte(taken+"\n"), 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("remember the S3 port: %w", err), listener.Close())
	}
	return listener, nil
}

func reasonFor(port string) string {
	if port != "0" {
		return "s3.port in the configuration"
	}
	return "another program has the old port"
}

// choose takes the asked port, or the last one, or one that is likely to be free at the next start too.
func choose(ctx context.Context, host, port, last string) (net.Listener, error) {
	if port != "0" {
		return patiently(ctx, host, port)
	}
	if last != "" {
		listener, err := patiently(ctx, host, last)
		if err == nil || ctx.Err() != nil {
			return listener, err
		}
	}
	for range 20 {
		if listener, err := take(ctx, host, strconv.Itoa(firstPort+rand.IntN(lastPort-firstPort))); err == nil {
			return listener, nil
		}
	}
	return take(ctx, host, "0")
}

// patiently takes a port that its last owner may be about to leave.
func patiently(ctx context.Context, host, port string) (listener net.Listener, err error) {
	err = retry(ctx, syscall.EADDRINUSE, func() error {
		listener, err = take(ctx, host, port)
		return err
	})
	return listener, err
}

func take(ctx context.Context, host, port string) (net.Listener, error) {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", net.JoinHostPort(host, port))
	if err != nil {
		return nil, fmt.Errorf("listen for S3: %w", err)
	}
	return listener, nil
}
