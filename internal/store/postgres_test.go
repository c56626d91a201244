package store_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"ostro.dev/ostro/internal/store"
	"ostro.dev/ostro/internal/store/storetest/pgserver"
)

// TestAReaderOfTheLogMissesNothingWhenProcessesWriteTogether has two writers, each with a connection of its own as two
// processes have, and a reader who resumes by number: were a number visible before a lower one, it would miss that.
func TestAReaderOfTheLogMissesNothingWhenProcessesWriteTogether(t *testing.T) {
	const each = 300
	url := pgserver.Database(t)
	at := func() *store.DB {
		return open(t, func(o *store.Options) { o.URL, o.BlobDir = url, t.TempDir() })
	}
	writers, reader := []*store.DB{at(), at()}, at()
	var wg sync.WaitGroup
	for w, db := range writers {
		wg.Go(func() {
			for i := range each {
				if err := update(db, emit(fmt.Sprint(w, " ", i))); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	var seen int64
	for last := false; ; {
		es, err := reader.Events(t.Context(), seen, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range es {
			if e.Seq != seen+1 {
				t.Fatalf("event %d came after %d", e.Seq, seen)
			}
			seen = e.Seq
		}
		if last {
			break
		}
		select {
		case <-done:
			last = true
		default:
		}
	}
	if seen != 2*each {
		t.Errorf("read %d events, want %d", seen, 2*each)
	}
}

func TestARestartOfPostgreSQLIsRiddenOut(t *testing.T) {
	server := pgserver.New(t)
	url := server.Database(t)
	db := open(t, func(o *store.Options) { o.URL, o.BlobDir = url, t.TempDir() })
	publish(t, db)
	for _, end := range []func(){server.Stop, server.Kill} {
		end()
		wantUnavailable(t, update(db, emit("lost")), "PostgreSQL does not answer")
		if _, err := db.TaskInstance(t.Context(), attempt("").Key); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("reading: got %v, want ErrUnavailable", err)
		}
		server.Start(t)
		if err := update(db, emit("kept")); err != nil {
			t.Errorf("the first write after the restart: %v", err)
		}
		if _, err := db.TaskInstance(t.Context(), attempt("").Key); err != nil {
			t.Errorf("the first reading after the restart: %v", err)
		}
	}
	sound(t, db)
}

// TestAConnectionCutAtTheCommitTellsTheTruth kills the writer's connection at the moment of its commit.
func TestACommitWhoseAnswerIsLostIsLookedUp(t *testing.T) {
	server := pgserver.New(t)
	url := server.Database(t)
	armed := false
	db := open(t, func(o *store.Options) {
		o.URL, o.BlobDir = url, t.TempDir()
		o.Fault = func(point string) error {
			if armed && point == store.FaultCommit {
				armed = false
				server.Exec(t, url, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE state = 'idle in transaction'`)
			}
			return nil
		}
	})
	if err := update(db, emit("before")); err != nil {
		t.Fatal(err)
	}
	armed = true
	wantUnavailable(t, update(db, emit("cut")), "PostgreSQL does not answer")
	if err := update(db, emit("after")); err != nil {
		t.Error(err)
	}
	if ks := strings.Join(kinds(t, db), " "); ks != "before after" {
		t.Errorf("events: %s", ks)
	}
}

func TestAWriterThatStandsStillLosesTheLock(t *testing.T) {
	url := pgserver.Database(t)
	at := func() *store.DB {
		return open(t, func(o *store.Options) { o.URL, o.BlobDir = url, t.TempDir() })
	}
	still, other := at(), at()
	entered, leave, ended := make(chan struct{}), make(chan struct{}), make(chan error)
	go func() {
		ended <- update(still, func(tx *store.Tx) error {
			err := emit("never")(tx)
			close(entered)
			<-leave
			return err
		})
	}()
	<-entered
	if err := update(other, emit("meanwhile")); err != nil {
		t.Errorf("another writer: %v", err)
	}
	close(leave)
	wantUnavailable(t, <-ended, "PostgreSQL does not answer")
	if err := update(still, emit("again")); err != nil {
		t.Error(err)
	}
	if ks := strings.Join(kinds(t, other), " "); ks != "meanwhile again" {
		t.Errorf("events: %s", ks)
	}
}

func TestWhatKeepsADatabaseFromBeingOpenedIsSaidWithoutThePassword(t *testing.T) {
	server := pgserver.New(t)
	url := server.Database(t)
	name := url[strings.LastIndex(url, "/")+1 : strings.Index(url, "?")]
	server.Exec(t, url, `CREATE USER poor PASSWORD 'hunter2'`, `REVOKE CREATE ON SCHEMA public FROM PUBLIC`)
	hba := filepath.Join(server.Dir(), "pg_hba.conf")
	rules := "host all poor 127.0.0.1/32 scram-sha-256\nhost all ostro 127.0.0.1/32 trust\n"
	if err := os.WriteFile(hba, []byte(rules), 0o644); err != nil {
		t.Fatal(err)
	}
	server.Exec(t, url, `SELECT pg_reload_conf()`)
	poor := func(password, database string) string {
		return strings.Replace(server.URL(database), "//ostro@", "//poor:"+password+"@", 1)
	}
	for what, c := range map[string]struct{ url, hint string }{
		"no server":        {"postgresql://u:hunter2@127.0.0.1:1/db", "PostgreSQL does not answer"},
		"no such host":     {"postgresql://u:hunter2@nowhere.invalid/db", "PostgreSQL does not answer"},
		"wrong password":   {poor("hunter22", name), "refuses the login"},
		"unknown user":     {strings.Replace(url, "//ostro@", "//nobody:hunter2@", 1), "refuses the login"},
		"missing database": {poor("hunter2", "missing"), "createdb"},
		"no right":         {poor("hunter2", name), "GRANT CREATE ON DATABASE"},
		"no address":       {"postgresql://u:hunter2@host:port/db", "postgresql://USER:PASSWORD@HOST:PORT/DATABASE"},
		"a strange option": {"postgresql://u:hunter2@host/db?sslmode=perhaps", "postgresql://USER:PASSWORD@HOST:PORT/DATABASE"},
	} {
		db, err := store.Open(t.Context(), store.Options{URL: c.url, BlobDir: t.TempDir()})
		if err == nil {
			t.Errorf("%s: it was opened", what)
			_ = db.Close()
			continue
		}
		if !errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), c.hint) || strings.Contains(err.Error(), "hunter") {
			t.Errorf("%s: %v\n\twant ErrUnavailable, the hint %q and no password", what, err, c.hint)
		}
	}
}

func TestTextThatPostgreSQLCannotHoldIsKeptWithoutTheRest(t *testing.T) {
	onEachEngine(t, func(t *testing.T, open opener) {
		db := open(t)
		publish(t, db)
		key := attempt("").Key
		err := update(db, func(tx *store.Tx) error {
			a := attempt("a")
			a.Reason = "a\x00b\xffc"
			if err := tx.CreateAttempt(a, nil); err != nil {
				return err
			}
			a.State = "failed"
			return tx.EndAttempt(a)
		})
		if err != nil {
			t.Fatal(err)
		}
		as, err := db.Attempts(t.Context(), key)
		if err != nil || len(as) != 1 || !strings.HasPrefix(as[0].Reason, "a") {
			t.Errorf("got %+v, %v", as, err)
		}
		if _, _, err := db.Runs(t.Context(), store.RunFilter{RunIDPattern: "a\x00\\%"}); err != nil {
			t.Error(err)
		}
	})
}
