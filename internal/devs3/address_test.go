package devs3

import (
	"bytes"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestThePortIsKeptAndOneThatIsTakenIsSaidWithItsConsequence(t *testing.T) {
	dir := t.TempDir()
	s := start(t, Options{Dir: dir})
	first := s.URL()
	stop(t, s)
	s = start(t, Options{Dir: dir})
	if s.URL() != first {
		t.Errorf("%s after a restart, was %s", s.URL(), first)
	}
	stop(t, s)
	other, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", strings.TrimPrefix(first, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	s = start(t, Options{Dir: dir, Logger: slog.New(slog.NewTextHandler(&said, nil))})
	second := s.URL()
	stop(t, s)
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"level=WARN", "tasks that are still running know the old address", "before=" + port(first), "now=" + port(second)} {
		if !strings.Contains(said.String(), want) {
			t.Errorf("%q is not said: %s", want, said.String())
		}
	}
	s = start(t, Options{Dir: dir})
	defer stop(t, s)
	if s.URL() != second {
		t.Errorf("%s, though tasks begun since know %s", s.URL(), second)
	}
}

func TestAGuestUsesTheEndpointOfTheServerAndElseOneOfItsOwnThatIsNotRemembered(t *testing.T) {
	dir := t.TempDir()
	s := start(t, Options{Dir: dir})
	guest := start(t, Options{Dir: dir, Guest: true})
	for name, value := range s.Env() {
		if guest.Env()[name] != value {
			t.Errorf("%s is %q for the guest, %q for the server's tasks", name, guest.Env()[name], value)
		}
	}
	stop(t, guest)
	stop(t, s)
	alone := start(t, Options{Dir: dir, Guest: true})
	if alone.URL() == s.URL() {
		t.Errorf("the guest took the server's port")
	}
	again := start(t, Options{Dir: dir}) // beside a guest
	defer stop(t, again)
	stop(t, alone)
	if again.URL() != s.URL() {
		t.Errorf("the server's address is %s after a guest, was %s", again.URL(), s.URL())
	}
}

func TestAGuestLeavesUploadsAlone(t *testing.T) {
	dir := t.TempDir()
	under := filepath.Join(dir, uploadsDir, "somebodys")
	if err := os.MkdirAll(under, 0o700); err != nil {
		t.Fatal(err)
	}
	stop(t, start(t, Options{Dir: dir, Guest: true}))
	if _, err := os.Stat(under); err != nil {
		t.Error(err)
	}
}

func TestOneServerServesAFolder(t *testing.T) {
	dir := t.TempDir()
	s := start(t, Options{Dir: dir})
	defer stop(t, s)
	if second, err := Start(t.Context(), Options{Dir: dir}); err == nil || !strings.Contains(err.Error(), "does another server serve it?") {
		t.Errorf("a second server: %v %v", second, err)
	}
}

func port(url string) string { return url[strings.LastIndexByte(url, ':')+1:] }
