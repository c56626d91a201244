package taskapi_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/store"
	"ostro.dev/ostro/protocol"
)

// give writes a file into the folder of the attempt.
func (w *world) give(name, text string) string {
	w.t.Helper()
	path := filepath.Join(w.scratch, attempt, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
	return path
}

func TestALargeXComComesAndGoesAsAFile(t *testing.T) {
	w := newWorld(t)
	value := `["` + strings.Repeat("x", 3<<20) + `"]`
	given := w.give("xcom-0.json", value)
	for range 2 { // asked again, because a server was away when the answer was due
		if got := w.ask(`{"type":"SetXComFile","key":"large","file":"xcom-0.json","map_length":1}`); !strings.Contains(got, `"ok":true`) {
			t.Fatalf("it is not taken: %s", got)
		}
	}
	if n, told := w.sched.pushed["large"]; !told || n != 1 {
		t.Errorf("the scheduler was told %v", w.sched.pushed)
	}
	if err := os.Remove(given); err != nil {
		t.Fatal(err)
	}
	answer := w.ask(`{"type":"GetXCom","key":"large","files":true}`)
	var found protocol.XComResult
	if err := json.Unmarshal([]byte(answer), &found); err != nil || len(answer) > 1000 || !found.Found {
		t.Fatalf("the answer is %.200s, %v", answer, err)
	}
	if kept, err := os.ReadFile(found.File); err != nil || string(kept) != value {
		t.Errorf("the file has %d bytes, want %d: %v", len(kept), len(value), err)
	}
	if got := w.ask(`{"type":"GetXCom","key":"large"}`); !strings.Contains(got, value) || strings.Contains(got, `"file"`) {
		t.Errorf("who does not ask for a file is told %.200s", got)
	}
	k := run.Key{DAGID: "d", RunID: "r2", TaskID: "t", MapIndex: -1}
	if xs, err := w.db.XComs(t.Context(), k, false); err != nil || len(xs) != 1 || xs[0].Size != int64(len(value)) || xs[0].MapLength != 1 {
		t.Errorf("it is listed as %+v, %v", xs, err)
	}
}

func TestASmallXComIsInTheAnswerAlsoForWhoCanReadFiles(t *testing.T) {
	w := newWorld(t)
	w.ask(`{"type":"SetXCom","key":"small","value":[1]}`)
	if got := w.ask(`{"type":"GetXCom","key":"small","files":true}`); got != `{"type":"XComResult","key":"small","value":[1],"found":true}` {
		t.Errorf("the answer is %s", got)
	}
}

func TestAnXComIsTakenFromTheFolderOfItsAttemptOnly(t *testing.T) {
	w := newWorld(t)
	outside := filepath.Join(w.scratch, "outside.json")
	if err := os.WriteFile(outside, []byte("1"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.give("sub/inner.json", "1")
	for _, name := range []string{"", ".", "..", "../outside.json", "sub/inner.json", outside} {
		if got := w.ask(fmt.Sprintf(`{"type":"SetXComFile","key":"k","file":%q}`, name)); got != "INVALID_REQUEST" {
			t.Errorf("%q: %s", name, got)
		}
	}
	if got := w.ask(`{"type":"SetXComFile","file":"inner.json"}`); got != "INVALID_REQUEST" {
		t.Errorf("without a key: %s", got)
	}
	if err := os.Symlink(outside, filepath.Join(w.scratch, attempt, "link.json")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"none.json", "link.json", "sub"} {
		if got := w.ask(fmt.Sprintf(`{"type":"SetXComFile","key":"k","file":%q}`, name)); got != "INVALID_REQUEST" {
			t.Errorf("%s: %s", name, got)
		}
	}
}

func TestAnXComFileOfAnAttemptThatHasEndedIsNotTaken(t *testing.T) {
	w := newWorld(t)
	w.give("x.json", "1")
	w.update(func(tx *store.Tx) error { return tx.EndAttempt(run.Attempt{ID: attempt, State: run.Failed}) })
	if got := w.ask(`{"type":"SetXComFile","key":"k","file":"x.json"}`); got != "PERMISSION_DENIED" {
		t.Errorf("it is answered %s", got)
	}
}
