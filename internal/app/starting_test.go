package app_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"ostro.dev/ostro/internal/app"
	"ostro.dev/ostro/internal/config"
)

// A heldStart is a server that does not come up until it is let go: it reads its token from a pipe.
type heldStart struct {
	t    *testing.T
	cfg  config.Config
	made chan *app.App
}

func holdStart(t *testing.T) *heldStart {
	t.Helper()
	cfg := newConfig(t)
	if err := syscall.Mkfifo(filepath.Join(cfg.Home, "token"), 0o600); err != nil {
		t.Fatal(err)
	}
	h := &heldStart{t: t, cfg: cfg, made: make(chan *app.App, 1)}
	go func() {
		a, err := app.New(cfg, logger(t), app.Options{Version: "slow"})
		if err != nil {
			t.Error(err)
		}
		h.made <- a
	}()
	await(t, "the server to take the home", func() bool {
		_, err := os.Stat(filepath.Join(cfg.Home, "run", "server.sock"))
		return err == nil
	})
	return h
}

// letGo lets the server come up and runs it to its end. Whoever starts next finds a token that is a file.
func (h *heldStart) letGo() (ended <-chan error) {
	h.t.Helper()
	path := filepath.Join(h.cfg.Home, "token")
	pipe, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		h.t.Fatal(err)
	}
	if err := os.WriteFile(path+".new", []byte("token\n"), 0o600); err != nil {
		h.t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		h.t.Fatal(err)
	}
	if _, err := pipe.WriteString("token\n"); err != nil {
		h.t.Fatal(err)
	}
	if err := pipe.Close(); err != nil {
		h.t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- (<-h.made).Run(context.Background()) }()
	return done
}

func TestAServerThatIsStillStartingSaysSoAndStopsOnceItHasComeUp(t *testing.T) {
	h := holdStart(t)
	why, stopped := make(chan string, 10), make(chan error, 1)
	var said app.Stopped
	go func() {
		var err error
		said, err = app.StopServer(t.Context(), h.cfg.Home, app.EndTasks, func(w string) { why <- w })
		stopped <- err
	}()
	select {
	case w := <-why:
		if !strings.Contains(w, fmt.Sprintf("process %d serves %s: it is still starting", os.Getpid(), h.cfg.Home)) {
			t.Errorf("it says %q", w)
		}
	case err := <-stopped:
		t.Fatalf("the stop came back before the server had come up: %v", err)
	}
	ended := h.letGo()
	if err := <-stopped; err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if said.Version != "slow" || len(said.Said) != 1 || len(why) > 0 {
		t.Errorf("the stop says %+v, and %d reasons more", said, len(why))
	}
}

func TestAServerThatIsStillStartingHandsOverOnceItHasComeUp(t *testing.T) {
	h := holdStart(t)
	type next struct {
		app *app.App
		err error
	}
	replaced, log := make(chan next, 1), make(logLines, 1000)
	go func() {
		a, err := app.New(h.cfg, slog.New(slog.NewTextHandler(log, nil)), app.Options{Version: "test", Replace: true})
		replaced <- next{a, err}
	}()
	for line := range log {
		if strings.Contains(line, "it is still starting") {
			break
		}
	}
	ended := h.letGo()
	n := <-replaced
	if n.err != nil {
		t.Fatal(n.err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if r := n.app.Replaced(); r.Version != "slow" {
		t.Errorf("it took over from %+v", r)
	}
	if err := n.app.Close(); err != nil {
		t.Error(err)
	}
}

func TestAStopThatIsGivenUpWhileTheServerStartsStopsNothing(t *testing.T) {
	h := holdStart(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if _, err := app.StopServer(ctx, h.cfg.Home, app.KeepTasks, func(string) { cancel() }); !errors.Is(err, context.Canceled) {
		t.Errorf("a stop that was given up: %v", err)
	}
	ended := h.letGo()
	s, err := app.StopServer(t.Context(), h.cfg.Home, app.EndTasks, func(string) {})
	if err != nil || len(s.Said) == 0 {
		t.Errorf("%+v, %v", s, err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestWhoAsksForAStopWhileAnotherGoesOnIsToldTheTimeOfThatOne(t *testing.T) {
	cfg := newConfig(t)
	cfg.Tasks.KillGrace = 90 * time.Second
	a, err := app.New(cfg, logger(t), app.Options{Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	a.Stop(app.EndTasks)
	c, err := net.Dial("unix", filepath.Join(cfg.Home, "run", "server.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte(`{"type":"Stop","keep_tasks":true}` + "\n")); err != nil {
		t.Fatal(err)
	}
	var answer struct {
		Type          string  `json:"type"`
		WithinSeconds float64 `json:"within_seconds"`
	}
	answers := json.NewDecoder(c)
	if err := answers.Decode(&answer); err != nil || answer.Type != "Starting" {
		t.Fatalf("a server that does not run yet says %+v, %v", answer, err)
	}
	ended := make(chan error, 1)
	go func() { ended <- a.Run(context.Background()) }()
	for answer.Type == "Starting" {
		if err := answers.Decode(&answer); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if answer.WithinSeconds < 90 {
		t.Errorf("tasks have 90 s to end, and who asks later is told that the stop takes %v s at most", answer.WithinSeconds)
	}
}

// logLines are what a program writes, line by line.
type logLines chan string

func (l logLines) Write(p []byte) (int, error) {
	l <- string(p)
	return len(p), nil
}

func TestAServerWhoseAnnouncementFindsNoPlaceMakesItLater(t *testing.T) {
	cfg := newConfig(t)
	taken := filepath.Join(cfg.Home, "run", "server.json.new")
	if err := os.MkdirAll(filepath.Join(taken, "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	s := start(t, cfg)
	announced := filepath.Join(cfg.Home, "run", "server.json")
	if _, err := os.Stat(announced); err == nil {
		t.Fatal("the announcement has found a place at once")
	}
	if err := os.RemoveAll(taken); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); ; {
		if said, _ := os.ReadFile(announced); strings.Contains(string(said), s.app.URL()) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("other commands do not learn where the server is")
		}
		<-time.After(20 * time.Millisecond)
	}
}
