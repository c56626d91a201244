// Package program builds and runs the real program for tests that use it from outside.
package program

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Build builds the program as path.
func Build(t *testing.T, path string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", path, "ostro.dev/ostro/cmd/ostro").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
}

// Serve starts the program on a home, with "NAME=value" added to its environment, and returns its address and its token
// once it answers. The test's end stops it and checks that it ends well.
func Serve(t *testing.T, binary, home string, environment ...string) (url, token string) {
	t.Helper()
	log, err := os.Create(filepath.Join(home, "server.log"))
	if err != nil {
		t.Fatal(err)
	}
	server := exec.Command(binary, "standalone", "--home", home, "--port", "0") //nolint:noctx // the cleanup stops it in order
	server.Stdout, server.Stderr = log, log
	server.Env = append(os.Environ(), environment...)
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Wait() }()
	t.Cleanup(func() {
		if err := server.Process.Signal(syscall.SIGTERM); err != nil {
			t.Error(err)
		}
		if err := <-ended; err != nil {
			text, _ := os.ReadFile(log.Name())
			t.Errorf("the server ended with %v:\n%s", err, text)
		}
		_ = log.Close()
	})
	url = answering(t, home, ended)
	text, err := os.ReadFile(filepath.Join(home, "token"))
	if err != nil {
		t.Fatal(err)
	}
	return url, strings.TrimSpace(string(text))
}

// answering waits until the server of a home says where it answers.
func answering(t *testing.T, home string, ended chan error) string {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; {
		var running struct{ URL string }
		if b, err := os.ReadFile(filepath.Join(home, "run", "server.json")); err == nil && json.Unmarshal(b, &running) == nil {
			return running.URL
		}
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("the server ended: %v", err)
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			t.Fatal("the server did not start")
		}
	}
}
