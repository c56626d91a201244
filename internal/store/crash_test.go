package store_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"ostro.dev/ostro/internal/core/plan"
	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/store"
	"ostro.dev/ostro/internal/store/storetest"
	"ostro.dev/ostro/internal/store/storetest/pgserver"
)

// crashDir makes the test binary the child of the crash test: it commits to the database in this folder, or to that at
// crashURL, until killed.
const (
	crashDir = "OSTRO_STORE_CRASH_DIR"
	crashURL = "OSTRO_STORE_CRASH_URL"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashDir); dir != "" {
		if err := commitUntilKilled(crashOptions(dir, os.Getenv(crashURL))); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(pgserver.Main(m))
}

func crashOptions(dir, url string) store.Options {
	return store.Options{Path: filepath.Join(dir, "control.db"), BlobDir: filepath.Join(dir, "blobs"), BlobThreshold: 100, URL: url}
}

// commitUntilKilled has four writers that each append an event, store an XCom (every fourth one large) and move their
// task instance, in one transaction; what was acknowledged is printed.
func commitUntilKilled(o store.Options) error {
	ctx := context.Background()
	db, err := store.Open(ctx, o)
	if err != nil {
		return err
	}
	failed := make(chan error)
	lines := make(chan string, 100)
	for w := range 4 {
		go func() { failed <- commitForEver(ctx, db, w, lines) }()
	}
	for {
		select {
		case line := <-lines:
			fmt.Println(line) // one write; the parent may see it only whole
		case err := <-failed:
			return err
		}
	}
}

func commitForEver(ctx context.Context, db *store.DB, w int, lines chan<- string) error {
	key := run.Key{DAGID: "d", RunID: "r", TaskID: fmt.Sprint("t", w), MapIndex: -1}
	ti, err := db.TaskInstance(ctx, key)
	if err != nil {
		return err
	}
	for {
		next := ti.TryNumber + 1
		err := db.Update(ctx, "child", time.Now(), func(tx *store.Tx) error {
			c := []plan.TaskChange{storetest.Change(ti, run.Running)}
			c[0].After.TryNumber = next
			if err := tx.ChangeTasks(c); err != nil {
				return err
			}
			if err := tx.Emit(store.Event{Kind: "ack", DAGID: "d", RunID: "r", TaskID: key.TaskID, MapIndex: next}); err != nil {
				return err
			}
			ti = c[0].After
			return tx.PutXCom(key, "n", crashValue(w, next), 0)
		})
		if err != nil {
			return err
		}
		lines <- fmt.Sprint(w, " ", next)
	}
}

func crashValue(w, n int) json.RawMessage {
	if n%4 == 0 {
		return json.RawMessage(`"` + strings.Repeat(fmt.Sprintf("%d:%d ", w, n), 100) + `"`)
	}
	return json.RawMessage(fmt.Sprintf(`"%d:%d"`, w, n))
}

func TestEveryAcknowledgedWriteSurvivesSIGKILL(t *testing.T) {
	t.Run("SQLite", func(t *testing.T) { crash(t, 30, "", func() {}) })
	t.Run("PostgreSQL", func(t *testing.T) { crash(t, 10, pgserver.Database(t), func() {}) })
	t.Run("PostgreSQL killed as well", func(t *testing.T) {
		server := pgserver.New(t)
		crash(t, 4, server.Database(t), func() {
			server.Kill()
			server.Start(t)
		})
	})
}

// crash kills a child again and again, and after each time wants everything it has acknowledged.
func crash(t *testing.T, rounds int, url string, then func()) {
	dir := t.TempDir()
	o := crashOptions(dir, url)
	prepareCrash(t, o)
	total := 0
	for round := range rounds {
		acknowledged := killAtRandom(t, dir, url)
		then()
		db, err := store.Open(t.Context(), o)
		if err != nil {
			t.Fatalf("round %d: open after the kill: %v", round, err)
		}
		for w := range 4 {
			total += checkWriter(t, db, w, acknowledged[w])
		}
		kinds(t, db) // checks that numbers have no gap
		sound(t, db)
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		if t.Failed() {
			t.Fatalf("round %d", round)
		}
	}
	t.Logf("%d writes checked", total)
}

func prepareCrash(t *testing.T, o store.Options) {
	t.Helper()
	db, err := store.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	r, tis := storetest.Run("d", "r", storetest.Epoch, "t0", "t1", "t2", "t3")
	err = update(db, func(tx *store.Tx) error {
		if _, _, err := tx.PutDAG(storetest.DAG("d", "t0", "t1", "t2", "t3"), "main", "b1", false); err != nil {
			return err
		}
		return tx.CreateRun(&r, tis)
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// killAtRandom runs a child, kills it after a random number of acknowledgements and a random moment, and returns the
// last acknowledged number of each writer.
func killAtRandom(t *testing.T, dir, url string) (last [4]int) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), crashDir+"="+dir, crashURL+"="+url)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	killAfter := 1 + rand.IntN(200)
	seen := 0
	for lines := bufio.NewScanner(out); lines.Scan(); {
		w, n, _ := strings.Cut(lines.Text(), " ")
		writer, err1 := strconv.Atoi(w)
		number, err2 := strconv.Atoi(n)
		if err1 != nil || err2 != nil {
			t.Fatalf("the child said %q", lines.Text())
		}
		last[writer] = number
		if seen++; seen == killAfter { // what it still says until it is dead counts as well
			time.AfterFunc(rand.N(3*time.Millisecond), func() { _ = cmd.Process.Kill() })
		}
	}
	_ = cmd.Wait() // killed
	if seen < killAfter {
		t.Fatalf("the child ended by itself after %d writes", seen)
	}
	return last
}

// checkWriter wants the instance, its XCom and the newest event of a writer to agree, at or one past what it
// acknowledged last: it may have committed once more without being able to say so.
func checkWriter(t *testing.T, db *store.DB, w, acknowledged int) int {
	t.Helper()
	key := run.Key{DAGID: "d", RunID: "r", TaskID: fmt.Sprint("t", w), MapIndex: -1}
	ti, err := db.TaskInstance(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	if acknowledged == 0 {
		acknowledged = ti.TryNumber // it said nothing in this round
	}
	// One more may be committed, and 100 lines may wait in the child's channel.
	if ti.TryNumber < acknowledged {
		t.Errorf("writer %d acknowledged %d, the store has %d", w, acknowledged, ti.TryNumber)
	}
	if ti.TryNumber == 0 {
		return 0
	}
	x, err := db.XCom(t.Context(), key, "n")
	if err != nil || string(x.Value) != string(crashValue(w, ti.TryNumber)) {
		t.Errorf("writer %d: XCom is %.40s, %v; the instance is at %d", w, x.Value, err, ti.TryNumber)
	}
	es, n, err := db.EventLog(t.Context(), store.EventFilter{DAGID: "d", RunID: "r", TaskID: key.TaskID, Kinds: []string{"ack"}, Limit: 1})
	if err != nil || n != ti.TryNumber || es[0].MapIndex != ti.TryNumber {
		t.Errorf("writer %d: %d events, newest %v, %v; the instance is at %d", w, n, es, err, ti.TryNumber)
	}
	if ti.Version != int64(ti.TryNumber+1) {
		t.Errorf("writer %d: version %d after %d changes", w, ti.Version, ti.TryNumber)
	}
	return ti.TryNumber
}
