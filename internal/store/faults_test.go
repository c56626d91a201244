package store_test

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"ostro.dev/ostro/internal/core/plan"
	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/store"
	"ostro.dev/ostro/internal/store/storetest"
)

func attempt(id string) run.Attempt {
	return run.Attempt{Key: run.Key{DAGID: "d", RunID: "r", TaskID: "t", MapIndex: -1}, ID: id}
}

// wantUnavailable wants an error a person can act on.
func wantUnavailable(t *testing.T, err error, hint string) {
	t.Helper()
	if !errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), hint) {
		t.Errorf("got error %v, want ErrUnavailable with the hint %q", err, hint)
	}
}

// filler is an event of 32 KiB.
func filler(tx *store.Tx) error {
	return tx.Emit(store.Event{Kind: "filler", MapIndex: -1, Detail: json.RawMessage(`"` + strings.Repeat("x", 32<<10) + `"`)})
}

func TestAFullDatabaseAnswersClearlyAndGoesOnWhenThereIsRoom(t *testing.T) {
	db := open(t, func(o *store.Options) { o.MaxPages = 200 })
	var err error
	acknowledged := 0
	for err == nil && acknowledged < 100 {
		if err = update(db, filler); err == nil {
			acknowledged++
		}
	}
	wantUnavailable(t, err, "no space left")
	for _, err := range together(t, db, emit("small"), filler, filler) { // one dooms all: they share the commit
		wantUnavailable(t, err, "no space left")
	}
	if n := len(kinds(t, db)); n != acknowledged {
		t.Errorf("%d events, want the %d acknowledged", n, acknowledged)
	}
	if _, err := db.Clean(t.Context(), storetest.Epoch.Add(time.Hour), false); err != nil {
		t.Fatalf("make room: %v", err)
	}
	if err := update(db, filler); err != nil {
		t.Errorf("with room again: %v", err)
	}
	sound(t, db)
}

func TestAFullDiskAnswersClearlyAndGoesOnWhenThereIsRoom(t *testing.T) {
	dir := tmpfs(t, "8m")
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 4<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	db := open(t, func(o *store.Options) { o.Path = filepath.Join(dir, "control.db") })
	publish(t, db)
	var err error
	acknowledged := len(kinds(t, db))
	for err == nil && acknowledged < 1000 {
		if err = update(db, filler); err == nil {
			acknowledged++
		}
	}
	wantUnavailable(t, err, "no space left")
	large := json.RawMessage(`"` + strings.Repeat("x", 1<<20) + `"`)
	key := run.Key{DAGID: "d", RunID: "r", TaskID: "t", MapIndex: -1}
	wantUnavailable(t, update(db, func(tx *store.Tx) error { return tx.PutXCom(key, "k", large, 0) }), "no space left")
	if n := len(kinds(t, db)); n != acknowledged {
		t.Errorf("%d events, want the %d acknowledged", n, acknowledged)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		if err := update(db, filler); err != nil {
			t.Fatalf("write %d with room again: %v", i, err)
		}
	}
	if err := update(db, func(tx *store.Tx) error { return tx.PutXCom(key, "k", large, 0) }); err != nil {
		t.Errorf("large XCom with room again: %v", err)
	}
	sound(t, db)
}

func TestOpeningOnAFullDiskSaysThatItIsFull(t *testing.T) {
	dir := tmpfs(t, "8m")
	o := store.Options{Path: filepath.Join(dir, "control.db")}
	db, err := store.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "ballast"), make([]byte, 16<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("the disk was to be filled: %v", err)
	}
	if db, err = store.Open(t.Context(), o); err == nil {
		_ = db.Close()
	}
	wantUnavailable(t, err, "no space left for the database")
	if strings.Contains(err.Error(), "PostgreSQL") {
		t.Errorf("a file is taken for a server: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "trying-*")); left != nil {
		t.Errorf("what was tried is left: %v", left)
	}
}

func TestAChangeThatWasRefusedIsKnownUntilOneIsTaken(t *testing.T) {
	db := open(t, func(o *store.Options) { o.MaxPages = 200 })
	var err error
	for i := 0; err == nil && i < 100; i++ {
		err = update(db, filler)
	}
	wantUnavailable(t, err, "no space left")
	if err := db.Health(t.Context()); err != nil {
		t.Logf("the small change of the proof is refused, too: %v", err)
	}
	if r := db.Refused(); r == nil || !errors.Is(r.Err, store.ErrUnavailable) {
		t.Fatalf("refused: %+v", r)
	}
	if got := store.Hint(db.Refused().Err); !strings.Contains(got, "no space left") {
		t.Errorf("the hint is %q", got)
	}
	if _, err := db.Clean(t.Context(), storetest.Epoch.Add(time.Hour), false); err != nil {
		t.Fatalf("make room: %v", err)
	}
	if err := update(db, filler); err != nil || db.Refused() != nil {
		t.Errorf("with room again: %v, refused %+v", err, db.Refused())
	}
}

func TestADatabaseLockedByAnotherProcessAnswersClearlyAndGoesOnAfterwards(t *testing.T) {
	var path string
	db := open(t, func(o *store.Options) { o.BusyTimeout, path = 20*time.Millisecond, o.Path })
	other := raw(t, path)
	execRaw(t, other, "BEGIN IMMEDIATE")
	wantUnavailable(t, update(db, emit("e")), "another process holds the database's lock")
	if _, err := db.Events(t.Context(), 0, 0); err != nil {
		t.Errorf("reading does not need the lock: %v", err)
	}
	execRaw(t, other, "ROLLBACK")
	if err := update(db, emit("e")); err != nil {
		t.Errorf("after the lock was released: %v", err)
	}
}

func TestAReadOnlyDatabaseIsRefusedWithAHint(t *testing.T) {
	dir := tmpfs(t, "32m")
	path := filepath.Join(dir, "control.db")
	db, err := store.Open(t.Context(), store.Options{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT|syscall.MS_RDONLY, "size=32m"); err != nil {
		t.Fatal(err)
	}
	if db, err = store.Open(t.Context(), store.Options{Path: path}); err == nil {
		err = update(db, emit("e"))
		defer func() { _ = db.Close() }()
	}
	wantUnavailable(t, err, "read-only")
	wantUnavailable(t, err, dir)
	_, _, err = store.Migrate(t.Context(), store.Options{Path: path})
	wantUnavailable(t, err, "read-only")
}

func TestADamagedFileIsNamedSo(t *testing.T) {
	t.Run("no database at all", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "control.db")
		if err := os.WriteFile(path, bytes.Repeat([]byte("not a database "), 1000), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := store.Open(t.Context(), store.Options{Path: path})
		if !errors.Is(err, store.ErrCorrupt) || !strings.Contains(err.Error(), "ostro db check") {
			t.Errorf("got %v, want ErrCorrupt with a hint", err)
		}
	})
	t.Run("a page overwritten", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "control.db")
		db, err := store.Open(t.Context(), store.Options{Path: path})
		if err != nil {
			t.Fatal(err)
		}
		for range 20 {
			if err := update(db, filler); err != nil {
				t.Fatal(err)
			}
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		info, err := f.Stat()
		if err == nil {
			_, err = f.WriteAt(bytes.Repeat([]byte{0xff}, 3*4096), info.Size()-8*4096)
		}
		if err := errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
		db = open(t, func(o *store.Options) { o.Path = path })
		r, err := db.Check(t.Context())
		if err != nil || len(r.Problems) == 0 {
			t.Errorf("check found %v, %v; want problems", r.Problems, err)
		}
	})
	t.Run("a large XCom changed, another gone", func(t *testing.T) {
		db := open(t)
		publish(t, db)
		key := run.Key{DAGID: "d", RunID: "r", TaskID: "t", MapIndex: -1}
		for i := range 2 {
			large := json.RawMessage(`"` + strings.Repeat(fmt.Sprint(i), 70_000) + `"`)
			if err := update(db, func(tx *store.Tx) error { return tx.PutXCom(key, fmt.Sprint(i), large, 0) }); err != nil {
				t.Fatal(err)
			}
		}
		files, err := filepath.Glob(filepath.Join(db.BlobDir(), "*", "*"))
		if err != nil || len(files) != 2 {
			t.Fatal(files, err)
		}
		if err := errors.Join(os.WriteFile(files[0], []byte("{}"), 0o600), os.Remove(files[1])); err != nil {
			t.Fatal(err)
		}
		r, err := db.Check(t.Context())
		if err != nil || len(r.Problems) != 2 {
			t.Errorf("check found %v, %v; want two problems", r.Problems, err)
		}
		if _, err := db.XComs(t.Context(), key, true); !errors.Is(err, store.ErrCorrupt) {
			t.Errorf("reading them gives %v, want ErrCorrupt", err)
		}
	})
}

func TestADatabaseOfANewerVersionIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "control.db")
	from, to, err := store.Migrate(t.Context(), store.Options{Path: path})
	if err != nil || from != 0 || to < 1 {
		t.Fatalf("migrate an empty file: from %d to %d: %v", from, to, err)
	}
	if from, _, err = store.Migrate(t.Context(), store.Options{Path: path}); err != nil || from != to {
		t.Errorf("migrate again: from %d: %v", from, err)
	}
	execRaw(t, raw(t, path), "INSERT INTO goose_db_version (version_id, is_applied) VALUES (9999, 1)")
	if _, err := store.Open(t.Context(), store.Options{Path: path}); !errors.Is(err, store.ErrNewer) {
		t.Errorf("open: got %v, want ErrNewer", err)
	}
	if _, _, err := store.Migrate(t.Context(), store.Options{Path: path}); !errors.Is(err, store.ErrNewer) {
		t.Errorf("migrate: got %v, want ErrNewer", err)
	}
}

func TestAnotherProcessMayCleanWhileTheStoreIsOpen(t *testing.T) {
	var path string
	db := open(t, func(o *store.Options) { path = o.Path })
	publish(t, db)
	other := open(t, func(o *store.Options) { o.Path = path })
	if err := update(other, emit("from the other")); err != nil {
		t.Fatal(err)
	}
	old, err := db.TaskInstance(t.Context(), attempt("").Key)
	if err != nil {
		t.Fatal(err)
	}
	move := func(tx *store.Tx) error {
		cs := []plan.TaskChange{storetest.Change(old, run.Scheduled)}
		err := tx.ChangeTasks(cs)
		old = cs[0].After
		return err
	}
	if err := update(db, move); err != nil { // now the writer remembers both keys
		t.Fatal(err)
	}
	conn := raw(t, path)
	execRaw(t, conn, "PRAGMA foreign_keys = 1")
	execRaw(t, conn, "DELETE FROM runs")
	r, tis := storetest.Run("d", "r2", storetest.Epoch, "t")
	if err := update(db, func(tx *store.Tx) error { return tx.CreateRun(&r, tis) }); err != nil {
		t.Fatal(err)
	}
	if err := update(db, move); !errors.Is(err, store.ErrConflict) {
		t.Errorf("changing an instance of a deleted run: got %v, want ErrConflict", err)
	}
	if err := update(db, func(tx *store.Tx) error { return tx.PutXCom(old.Key, "k", nil, 0) }); err == nil {
		t.Error("an XCom of a deleted run was stored")
	}
	err = update(db, func(tx *store.Tx) error { return tx.CreateAttempt(attempt("a1"), nil) })
	if err == nil {
		t.Error("an attempt of a deleted run was stored")
	}
	if got, err := db.TaskInstance(t.Context(), tis[0].Key); err != nil || got.Version != 1 || got.State != run.None {
		t.Errorf("the new instance is %+v, %v", got, err)
	}
	if as, err := db.RunAttempts(t.Context(), "d", "r2"); err != nil || len(as) != 0 {
		t.Errorf("the new run has the attempts %v, %v", as, err)
	}
	kinds(t, db) // checks the numbers
	sound(t, db)
}

func TestSecretsAreUnreadableInTheFile(t *testing.T) {
	flip := func(b []byte) ([]byte, error) {
		out := bytes.Clone(b)
		for i := range out {
			out[i] ^= 0x5a
		}
		return out, nil
	}
	var path string
	db := open(t, func(o *store.Options) { o.Seal, o.Open, path = flip, flip, o.Path })
	v := store.Variable{Key: "k", Value: "hunter2-variable"}
	c := store.Connection{ID: "c", Password: "hunter2-password", Extra: "hunter2-extra"}
	if err := update(db, func(tx *store.Tx) error { return errors.Join(tx.PutVariable(v), tx.PutConnection(c)) }); err != nil {
		t.Fatal(err)
	}
	gotV, err := db.Variable(t.Context(), "k")
	if err != nil || gotV != v {
		t.Errorf("variable reads back as %v, %v", gotV, err)
	}
	gotC, err := db.Connection(t.Context(), "c")
	if err != nil || gotC != c {
		t.Errorf("connection reads back as %v, %v", gotC, err)
	}
	for _, name := range []string{path, path + "-wal"} {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(b, []byte("hunter2")) {
			t.Errorf("a secret can be read in %s", filepath.Base(name))
		}
	}
	plain := open(t, func(o *store.Options) { o.Path = path })
	if _, err := plain.Variable(t.Context(), "k"); !errors.Is(err, store.ErrInvalid) {
		t.Errorf("without the key: %v", err)
	}
}

func TestTheTrackingDatabaseIsAFileOfItsOwn(t *testing.T) {
	dir := t.TempDir()
	db, err := store.OpenTracking(t.Context(), store.Options{Path: filepath.Join(dir, "tracking.db")})
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(t.Context(), "tester", storetest.Epoch, func(tx *store.TrackingTx) error { return tx.SetMeta("k", "v") })
	if err != nil {
		t.Error(err)
	}
	if got, err := db.Meta(t.Context(), "k"); err != nil || got != "v" {
		t.Errorf("got %q, %v", got, err)
	}
	if err := db.Backup(t.Context(), filepath.Join(dir, "copy.db")); err != nil {
		t.Error(err)
	}
	if err := db.Close(); err != nil {
		t.Error(err)
	}
}

// publish publishes the DAG d with the task t and starts its run r.
func publish(t *testing.T, db *store.DB) {
	t.Helper()
	r, tis := storetest.Run("d", "r", storetest.Epoch, "t")
	err := update(db, func(tx *store.Tx) error {
		if _, _, err := tx.PutDAG(storetest.DAG("d", "t"), "main", "b1", false); err != nil {
			return err
		}
		return tx.CreateRun(&r, tis)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// sound wants a check without problems.
func sound(t *testing.T, db *store.DB) {
	t.Helper()
	if r, err := db.Check(context.Background()); err != nil || len(r.Problems) > 0 {
		t.Errorf("check found %v, %v", r.Problems, err)
	}
}

// tmpfs mounts a small file system for the test.
func tmpfs(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Skipf("mounting a tmpfs needs root: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// raw is a connection of another program to the file.
func raw(t *testing.T, path string) *sql.Conn {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := db.Conn(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(conn.Close(), db.Close()); err != nil {
			t.Error(err)
		}
	})
	return conn
}

func execRaw(t *testing.T, c *sql.Conn, text string) {
	t.Helper()
	if _, err := c.ExecContext(t.Context(), text); err != nil {
		t.Fatal(err)
	}
}
