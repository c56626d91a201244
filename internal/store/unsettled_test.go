package store_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	neturl "net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"ostro.dev/ostro/internal/store"
	pg "ostro.dev/ostro/internal/store/postgres"
	"ostro.dev/ostro/internal/store/storetest"
	"ostro.dev/ostro/internal/store/storetest/pgserver"
)

// A wire stands between the store and PostgreSQL. Armed, it passes the next commit on, swallows the answer, and is cut until
// it is mended.
type wire struct {
	t  *testing.T
	l  net.Listener
	to string

	mu    sync.Mutex
	armed bool
	cut   chan struct{} // closed when the wire was cut
	dead  bool
	conns []net.Conn
	wg    sync.WaitGroup
}

// throughWire returns a wire and the address of a database at its end.
func throughWire(t *testing.T, address string) (*wire, string) {
	t.Helper()
	u, err := neturl.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{t: t, l: l, to: u.Host, cut: make(chan struct{})}
	w.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			w.wg.Go(func() { w.pass(c) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		w.hangUp()
		w.wg.Wait()
	})
	u.Host = l.Addr().String()
	return w, u.String()
}

func (w *wire) arm() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.armed = true
}

func (w *wire) mend() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dead = false
}

func (w *wire) hangUp() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dead = true
	for _, c := range w.conns {
		_ = c.Close()
	}
	w.conns = nil
}

// pass carries one connection.
func (w *wire) pass(client net.Conn) {
	server, err := net.Dial("tcp", w.to)
	if err != nil {
		w.t.Error(err)
		return
	}
	w.mu.Lock()
	w.conns = append(w.conns, client, server)
	dead := w.dead
	w.mu.Unlock()
	if dead {
		_ = client.Close()
		_ = server.Close()
		return
	}
	answers := make(chan struct{}) // closed when the answers are swallowed
	var answering sync.WaitGroup
	answering.Go(func() {
		buf := make([]byte, 64<<10)
		for {
			n, err := server.Read(buf)
			select {
			case <-answers: // what was committed is, by now
				w.hangUp()
				close(w.cut)
				return
			default:
			}
			if _, werr := client.Write(buf[:n]); err != nil || werr != nil {
				_ = client.Close()
				return
			}
		}
	})
	defer answering.Wait()
	defer server.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := client.Read(buf)
		w.mu.Lock()
		if w.armed && bytes.Contains(buf[:n], []byte("COMMIT\x00")) {
			w.armed = false
			close(answers)
		}
		w.mu.Unlock()
		if _, werr := server.Write(buf[:n]); err != nil || werr != nil {
			if !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) && werr == nil && n > 0 {
				w.t.Error(err)
			}
			return
		}
	}
}

func TestACommitWhoseAnswerIsLostWaitsUntilTheServerSaysWhatBecameOfIt(t *testing.T) {
	direct := pgserver.Database(t)
	w, address := throughWire(t, direct)
	db := open(t, func(o *store.Options) { o.URL, o.BlobDir = address, t.TempDir() })
	w.arm()
	done := make(chan error, 1)
	go func() { done <- update(db, emit("carried out")) }()
	<-w.cut
	wantUnavailable(t, update(db, emit("refused")), "PostgreSQL does not answer")
	select {
	case err := <-done:
		t.Fatalf("it was answered before anybody could know: %v", err)
	default:
	}
	w.mend()
	if err := <-done; err != nil {
		t.Errorf("a change that was committed: %v", err)
	}
	if err := update(db, emit("after")); err != nil {
		t.Error(err)
	}
	beside := open(t, func(o *store.Options) { o.URL, o.BlobDir = direct, t.TempDir() })
	if ks := strings.Join(kinds(t, beside), " "); ks != "carried out after" {
		t.Errorf("events: %s", ks)
	}
}

func TestACallerThatGivesUpIsToldThatACommitIsUnsettled(t *testing.T) {
	w, address := throughWire(t, pgserver.Database(t))
	db := open(t, func(o *store.Options) { o.URL, o.BlobDir = address, t.TempDir() })
	w.arm()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- db.Update(ctx, "tester", storetest.Epoch, emit("carried out")) }()
	<-w.cut
	cancel()
	wantUnavailable(t, <-done, "the answer to the commit was lost")
}

func TestTheLeadIsRenewedWhileReadersAreBusy(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	d := openPostgres(t, pg.Options{URL: pgserver.Database(t), Schema: pg.Control, Readers: 1})
	if _, _, err := d.Lead(ctx, pg.Leader{Server: "this", HomeID: "h"}, time.Minute, "SELECT 0"); err != nil {
		t.Fatal(err)
	}
	busy, err := d.Readers().Conn(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	if err := d.Renew(ctx, time.Minute); err != nil {
		t.Errorf("renew: %v", err)
	}
	if err := d.Resign(ctx); err != nil {
		t.Errorf("resign: %v", err)
	}
}

func TestALeaderThatHasJustRenewedIsNotReleased(t *testing.T) {
	url := pgserver.Database(t)
	d := openPostgres(t, pg.Options{URL: url, Schema: pg.Control})
	lead, _, err := d.Lead(t.Context(), pg.Leader{Server: "this", HomeID: "h"}, time.Minute, "SELECT 0")
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Release(t.Context(), lead.Term); !errors.Is(err, pg.ErrLed) {
		t.Errorf("a leader with a lease was released: %v", err)
	}
	if err := d.Resign(t.Context()); err != nil {
		t.Fatal(err)
	}
	other := openPostgres(t, pg.Options{URL: url, Schema: pg.Control})
	if err := other.Release(t.Context(), lead.Term); err != nil {
		t.Errorf("one that is gone was not: %v", err)
	}
	if err := other.Release(t.Context(), lead.Term); !errors.Is(err, pg.ErrLed) {
		t.Errorf("it was released twice: %v", err)
	}
}

func openPostgres(t *testing.T, o pg.Options) *pg.Database {
	t.Helper()
	d, err := pg.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}
