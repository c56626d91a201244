package worker

import (
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/executor"
	"ostro.dev/ostro/protocol"
)

func testSpool(t *testing.T, dir string) *spool {
	t.Helper()
	s, err := openSpool(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func TestAResultOutlivesTheSpoolThatTookItWhateverItsSize(t *testing.T) {
	dir := t.TempDir()
	s := testSpool(t, dir)
	big := strings.Repeat("x", 2*spoolMemory)
	for id, value := range map[string]string{"small": "1", "big": `"` + big + `"`} {
		r := executor.Result{AttemptID: id, State: run.Success, EndedAt: time.Now(), XComs: []protocol.XComValue{{Key: "k", Value: []byte(value)}}}
		if _, err := s.Add(r); err != nil {
			t.Fatal(err)
		}
		s.Save(id)
	}
	again := testSpool(t, dir)
	for _, sp := range []*spool{s, again} {
		for _, id := range []string{"small", "big"} {
			data, err := sp.Get(id)
			if err != nil || !strings.Contains(string(data), `"attempt_id":"`+id+`"`) {
				t.Errorf("%s: %.60s, %v", id, data, err)
			}
		}
	}
	again.Remove("small")
	again.Remove("big")
	if left := testSpool(t, dir).IDs(); len(left) != 0 {
		t.Errorf("%v are left", left)
	}
}

func TestAResultTheDiskRefusesIsKeptAndSavedLater(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	s := testSpool(t, dir)
	if err := os.Remove(dir); err != nil { // nothing can be written
		t.Fatal(err)
	}
	big := executor.Result{AttemptID: "a", State: run.Failed, Reason: strings.Repeat("x", 2*spoolMemory), EndedAt: time.Now()}
	data, err := s.Add(big)
	if err != nil {
		t.Fatal(err)
	}
	s.Save("a")
	if got, err := s.Get("a"); err != nil || cmp.Diff(string(data), string(got)) != "" {
		t.Errorf("from memory: %d bytes, %v", len(got), err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	s.settle()
	if _, err := os.Stat(filepath.Join(dir, "a.json")); err != nil {
		t.Error(err)
	}
}

func TestAResultAcknowledgedBeforeItIsSavedLeavesNoFile(t *testing.T) {
	dir := t.TempDir()
	s := testSpool(t, dir)
	if _, err := s.Add(executor.Result{AttemptID: "a", State: run.Success}); err != nil {
		t.Fatal(err)
	}
	s.Remove("a")
	s.Save("a")
	if left := testSpool(t, dir).IDs(); len(left) != 0 || s.Has("a") {
		t.Errorf("%v are left", left)
	}
}

func TestAResultThatNoMessageCanCarryBecomesAFailureThatSaysSo(t *testing.T) {
	s := testSpool(t, t.TempDir())
	w := &Worker{log: slog.New(slog.DiscardHandler), spool: s, attempts: map[string]*attempt{}, records: newRecords(t.TempDir())}
	value := `"` + strings.Repeat("x", protocol.MaxFrame) + `"`
	w.finish(executor.Result{
		AttemptID: "a", State: run.Success, EndedAt: time.Now(), XComs: []protocol.XComValue{{Key: "k", Value: []byte(value)}},
	})
	data, err := s.Get("a")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := protocol.AppendFrame(nil, 0, finished{"Finished", data}, nil); err != nil {
		t.Error(err)
	}
	var r executor.Result
	if err := json.Unmarshal(data, &r); err != nil || r.State != run.Failed || !strings.Contains(r.Reason, "too large") {
		t.Errorf("got %+v, %v", r, err)
	}
}

func TestASpoolThatIsClosedLeavesWhatEveryBuildReads(t *testing.T) {
	dir := t.TempDir()
	s := testSpool(t, dir)
	for _, id := range []string{"a", "b", "done"} {
		if _, err := s.Add(executor.Result{AttemptID: id, State: run.Success, EndedAt: time.Now()}); err != nil {
			t.Fatal(err)
		}
		s.Save(id)
	}
	s.Remove("done")
	s.Close()
	// A build from before the journal reads ID.json, and deletes whatever has another name.
	var names []string
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil || checkResult(strings.TrimSuffix(e.Name(), ".json"), data) != nil {
			t.Errorf("%s holds %s, %v", e.Name(), data, err)
		}
	}
	if diff := cmp.Diff([]string{"a.json", "b.json"}, names); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	again := testSpool(t, dir)
	ids := again.IDs()
	slices.Sort(ids)
	if diff := cmp.Diff([]string{"a", "b"}, ids); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	again.Remove("a")
	again.Remove("b")
	again.Close()
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("where nothing waits there is %v, %v", entries, err)
	}
}

func TestAJournalOfANewerBuildIsRefusedAndNothingOfItDeleted(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"results-2.journal", "notes.txt", "half.tmp"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := openSpool(dir, slog.New(slog.DiscardHandler)); !errors.Is(err, ErrNewerSpool) || !strings.Contains(err.Error(), "results-2.journal") {
		t.Errorf("got %v", err)
	}
	for name, want := range map[string]bool{"results-2.journal": true, "notes.txt": true, "half.tmp": false} {
		if _, err := os.Stat(filepath.Join(dir, name)); (err == nil) != want {
			t.Errorf("%s is there: %v, want %v", name, err == nil, want)
		}
	}
}
