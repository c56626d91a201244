package scheduler

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/core/trigger"
)

// A fileSystem is one whose folder /hung does not answer until it is healed.
type fileSystem struct {
	healed chan struct{}

	mu    sync.Mutex
	looks map[string]int
	fired []string
	notes map[string]string
}

func (s *fileSystem) there(_ context.Context, pattern string, _ bool) bool {
	s.mu.Lock()
	s.looks[pattern]++
	s.mu.Unlock()
	if strings.HasPrefix(pattern, "/hung/") {
		<-s.healed
	}
	return true
}

func newFileSystem() (*fileSystem, *fileWatcher, *bytes.Buffer) {
	s := &fileSystem{healed: make(chan struct{}), looks: map[string]int{}, notes: map[string]string{}}
	var log bytes.Buffer
	w := newFileWatcher(slog.New(slog.NewTextHandler(&log, nil)), func(_ run.Key, id string, _ json.RawMessage) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.fired = append(s.fired, id)
	}, func(_ run.Key, id, note string) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.notes[id] = note
	})
	w.there = s.there
	return s, w, &log
}

func (s *fileSystem) has(t *testing.T, fired int, what string) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.fired) != fired {
		t.Errorf("%s: %d waits are over, want %d: %v", what, len(s.fired), fired, s.fired)
	}
}

func TestAFileSystemThatDoesNotAnswerHoldsUpNeitherOtherFilesNorTheStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, w, log := newFileSystem()
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { w.run(ctx) })
		watch := func(id, pattern string) {
			w.add(run.Key{TaskID: id}, id, trigger.File{Pattern: pattern, Every: time.Second})
		}
		for i := range 3 * maxLooks {
			watch(fmt.Sprint("hung", i), fmt.Sprintf("/hung/%d", i))
		}
		synctest.Wait()
		watch("well", "/well/file")
		time.Sleep(lookPatience + time.Second)
		synctest.Wait()
		s.has(t, 1, "with a folder that does not answer")
		if n := len(s.looks); n != maxLooks+1 {
			t.Errorf("%d files were looked at, want %d of the folder that does not answer, and one", n, maxLooks)
		}
		watch("late", "/hung/below/*.csv")
		synctest.Wait()
		if note := s.notes["late"]; !strings.Contains(note, "/hung/below has not answered since") || s.notes["hung0"] == "" {
			t.Errorf("of a wait in the folder it says %q and %q", note, s.notes["hung0"])
		}
		w.drop("late")

		cancel()
		running.Wait() // the looks have not come back
		if !strings.Contains(log.String(), fmt.Sprintf("left behind\" looks=%d", maxLooks)) {
			t.Errorf("the stop says\n%s", log)
		}
		close(s.healed)
		synctest.Wait()
		s.has(t, 1, "after the stop")
	})
}

func TestAFolderThatAnswersAgainIsLookedAtAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, w, _ := newFileSystem()
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { w.run(ctx) })
		for i := range 3 * maxLooks {
			id := fmt.Sprint(i)
			w.add(run.Key{TaskID: id}, id, trigger.File{Pattern: "/hung/" + id, Every: time.Second})
		}
		time.Sleep(2 * lookPatience)
		close(s.healed)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		s.has(t, 3*maxLooks, "when it answers")
		for id, note := range s.notes {
			if note != "" {
				t.Errorf("of wait %s it still says %q", id, note)
			}
		}
		if w.numb != 0 || w.looking != 0 || len(w.aside) != 0 {
			t.Errorf("%d looks are set aside, %d under way, in %d folders", w.numb, w.looking, len(w.aside))
		}
		cancel()
		running.Wait()
	})
}

func TestTheFolderOfAPatternIsWhereTheLookBegins(t *testing.T) {
	for pattern, want := range map[string]string{
		"/a/b/c": "/a/b", "/a/b/*.csv": "/a/b", "/a/*/c": "/a", "/c": "/", "/*": "/", "c": ".", "*/c": ".", "a/b": "a", "/a/b/": "/a",
	} {
		if got := folderOf(pattern); got != want {
			t.Errorf("%q begins in %q, want %q", pattern, got, want)
		}
	}
}

func TestAPatternThroughLinksThatLeadInACircleEnds(t *testing.T) {
	dir := t.TempDir()
	// Every folder links to every other: without a memory the paths through them are without number.
	for i := range 12 {
		if err := os.Mkdir(filepath.Join(dir, fmt.Sprint("d", i)), 0o700); err != nil {
			t.Fatal(err)
		}
		for j := range 12 {
			if err := os.Symlink("../"+fmt.Sprint("d", j), filepath.Join(dir, fmt.Sprint("d", i), fmt.Sprint("to", j))); err != nil {
				t.Fatal(err)
			}
		}
	}
	if fileThere(t.Context(), filepath.Join(dir, "**", "x.csv"), true) {
		t.Error("a file was found where there is none")
	}
	if err := os.WriteFile(filepath.Join(dir, "d7", "x.csv"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for pattern, want := range map[string]bool{
		"**/x.csv": true, "d0/**/x.csv": true, "d0/to7/x.csv": true, "**/**/x.csv": true, "d0/*/x.csv": true, "d0/**/y.csv": false,
	} {
		if got := fileThere(t.Context(), filepath.Join(dir, pattern), true); got != want {
			t.Errorf("%s: %v, want %v", pattern, got, want)
		}
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if fileThere(gone, filepath.Join(dir, "**", "x.csv"), true) {
		t.Error("a look goes on after the stop")
	}
}

func TestAFolderWithNothingButLinksToFoldersHoldsNoFile(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"empty", "links"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for from, to := range map[string]string{"links/a": "../empty", "link": "empty", "full": "links"} {
		if err := os.Symlink(to, filepath.Join(dir, from)); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"empty", "links", "link", "full"} {
		if fileThere(t.Context(), filepath.Join(dir, name), false) {
			t.Errorf("%s holds a file", name)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "links", "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if !fileThere(t.Context(), filepath.Join(dir, "full"), false) {
		t.Error("a folder named by a link holds no file")
	}
}
