package postgres

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Writer is the writing connection. Statements whose answers nobody waits for are collected and travel together with the
// next one whose answer is wanted, so that a transaction costs few round trips however many rows it changes: one to
// begin, one for most of its statements, one to commit.
//
// Every transaction takes the one write lock first (an advisory lock, so that it is free again however its holder ends)
// and keeps it until its commit. So write transactions of all processes follow one another: what one reads and numbers
// inside it nobody changes meanwhile, and events appear in the order of their numbers.
type Writer struct {
	d     *Database
	conn  *pgx.Conn
	queue []sent

	xid    string // of the open transaction
	newest int64
}

type sent struct {
	text string
	args []any
	done func(changed int64) error
}

// maxQueue is how many statements wait at most before they are sent.
const maxQueue = 500

// Writer opens the writing connection.
func (d *Database) Writer(ctx context.Context) (*Writer, error) {
	conn, err := d.dial(ctx, map[string]string{
		"lock_timeout":                        millis(d.o.LockTimeout),
		"idle_in_transaction_session_timeout": millis(idleInTransaction),
		"default_transaction_read_only":       "off",
	})
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", Shown(d.o.URL), err)
	}
	return &Writer{d: d, conn: conn}, nil
}

func millis(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }

// lockSpace is the first half of the write lock's number: "ostr".
const lockSpace = 0x6f737472

// Begin starts a write transaction. It reads what every transaction needs to know in the same round trip: the number of
// the newest event, and the term of the leader.
func (w *Writer) Begin(ctx context.Context) error {
	newest, term := "0::bigint", "0::bigint"
	if w.d.o.Newest != "" {
		newest = "(" + w.d.o.Newest + ")"
	}
	if w.d.o.Schema == Control {
		term = "coalesce((SELECT term FROM leader), 0)"
	}
	w.queue = append(w.queue[:0], sent{text: "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"},
		sent{text: "SELECT pg_advisory_xact_lock($1, $2)", args: []any{int32(lockSpace), w.d.o.Schema.lockKey()}})
	var stored int64
	err := w.Query(ctx, "SELECT pg_current_xact_id()::text, "+newest+", "+term, nil, func(row Row) error {
		return row.Scan(&w.xid, &w.newest, &stored)
	})
	if err != nil {
		return err
	}
	return w.d.term.check(stored)
}

// Newest is the number of the newest event when the transaction began.
func (w *Writer) Newest() int64 { return w.newest }

// Send runs a statement some time before the next answer is given out; done, when it is not nil, is then told how many
// rows it changed, in the order of sending.
func (w *Writer) Send(ctx context.Context, text string, args []any, done func(changed int64) error) error {
	w.queue = append(w.queue, sent{text, args, done})
	if len(w.queue) >= maxQueue {
		return w.Flush(ctx)
	}
	return nil
}

// Flush returns when everything sent has run.
func (w *Writer) Flush(ctx context.Context) error {
	for len(w.queue) > 0 { // what is told may send more
		if err := w.exchange(ctx, "", nil, nil); err != nil {
			return err
		}
	}
	return nil
}

// Row is one row of an answer.
type Row interface{ Scan(dest ...any) error }

// Query runs a statement behind those sent and calls row for each row of its answer.
func (w *Writer) Query(ctx context.Context, text string, args []any, row func(Row) error) error {
	return w.exchange(ctx, text, args, row)
}

// exchange is one round trip.
func (w *Writer) exchange(ctx context.Context, text string, args []any, row func(Row) error) error {
	queue := w.queue
	w.queue = nil
	changed := make([]int64, len(queue))
	err := w.travel(ctx, queue, changed, text, args, row)
	if err != nil {
		return w.mark(err)
	}
	for i, s := range queue {
		if s.done == nil {
			continue
		}
		if err := s.done(changed[i]); err != nil {
			w.queue = nil
			return err
		}
	}
	if w.queue == nil {
		w.queue = queue[:0]
	}
	return nil
}

func (w *Writer) travel(ctx context.Context, queue []sent, changed []int64, text string, args []any, row func(Row) error) (err error) {
	var b pgx.Batch
	for _, s := range queue {
		b.Queue(s.text, s.args...)
	}
	if row != nil {
		b.Queue(text, args...)
	}
	answers := w.conn.SendBatch(ctx, &b)
	defer func() {
		if e := answers.Close(); err == nil {
			err = e
		}
	}()
	for i := range queue {
		tag, err := answers.Exec()
		if err != nil {
			return err
		}
		changed[i] = tag.RowsAffected()
	}
	if row == nil {
		return nil
	}
	rows, err := answers.Query()
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := row(scanning{rows}); err != nil {
			return err
		}
	}
	return rows.Err()
}

// scanning reads truth values, which are 0 and 1 in the database, into booleans.
type scanning struct{ rows pgx.Rows }

func (s scanning) Scan(dest ...any) error {
	for i, d := range dest {
		if b, ok := d.(*bool); ok {
			dest[i] = truth{b}
		}
	}
	return s.rows.Scan(dest...)
}

type truth struct{ b *bool }

func (t truth) Scan(v any) error {
	i, ok := v.(int64)
	if !ok {
		return fmt.Errorf("a truth value is %T", v)
	}
	*t.b = i != 0
	return nil
}

// mark says of an error that the connection is gone, if it is.
func (w *Writer) mark(err error) error {
	if w.conn.IsClosed() && !errors.Is(err, errGone) {
		return fmt.Errorf("%w: %w", errGone, err)
	}
	return err
}

// Commit returns nil once the transaction is durable, and ErrUnsettled when the connection broke before the answer had come:
// Outcome finds out.
func (w *Writer) Commit(ctx context.Context) error {
	w.queue = nil
	tag, err := w.conn.Exec(ctx, "COMMIT")
	if err == nil {
		if tag.String() != "COMMIT" {
			return fmt.Errorf("commit: PostgreSQL answered %s: a statement of the transaction had failed", tag)
		}
		return nil
	}
	if e, ok := isPgError(err); ok && e.Severity != "FATAL" && e.Severity != "PANIC" {
		return w.mark(err)
	}
	return fmt.Errorf("%w: %w", ErrUnsettled, w.mark(err))
}

// Rollback ends the transaction without a trace, if there is one.
func (w *Writer) Rollback(ctx context.Context) error {
	w.queue = nil
	if w.conn.PgConn().TxStatus() == 'I' {
		return nil
	}
	_, err := w.conn.Exec(ctx, "ROLLBACK")
	return w.mark(err)
}

const (
	savepoint = "SAVEPOINT closure"
	release   = "RELEASE SAVEPOINT closure"
	undo      = "ROLLBACK TO SAVEPOINT closure"
)

// Savepoint, Release and RollbackTo surround a part of the transaction that may fail by itself. The former two travel with
// what follows.
func (w *Writer) Savepoint(ctx context.Context) error { return w.Send(ctx, savepoint, nil, nil) }

// Release keeps the part.
func (w *Writer) Release(ctx context.Context) error { return w.Send(ctx, release, nil, nil) }

// RollbackTo drops the part, and its savepoint. What was sent before the savepoint stays.
func (w *Writer) RollbackTo(ctx context.Context) error {
	for i := len(w.queue) - 1; i >= 0; i-- {
		if w.queue[i].text == savepoint { // nothing of the part has been sent off
			w.queue = w.queue[:i]
			return nil
		}
	}
	w.queue = append(w.queue[:0], sent{text: undo}, sent{text: release})
	return w.Flush(ctx)
}

// Close closes the connection.
func (w *Writer) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	err := w.conn.Close(ctx)
	if pgconn.Timeout(err) || w.conn.IsClosed() {
		return nil // it is closed all the same
	}
	return err
}
