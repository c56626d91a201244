package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
)

// database is what the control and the tracking database have in common: an engine, a writer and prepared reads.
type database struct {
	eng   engine
	w     *writer
	texts []string
	used  []atomic.Uint64

	mu    sync.Mutex
	reads []*sql.Stmt
}

func openDatabase(ctx context.Context, o Options, schema schema, texts []string) (*database, error) {
	eng, err := openEngine(ctx, o, schema)
	if err != nil {
		return nil, explain(err)
	}
	d := &database{eng: eng, texts: texts, reads: make([]*sql.Stmt, len(texts)), used: counters(len(texts))}
	d.w = newWriter(eng, texts, o.Fault, d.used)
	return d, nil
}

// Close waits for the writer and closes.
func (d *database) Close() error {
	err := d.w.stop()
	d.mu.Lock()
	defer d.mu.Unlock()
	for i, st := range d.reads {
		if st != nil {
			err = errors.Join(err, st.Close())
			d.reads[i] = nil
		}
	}
	return errors.Join(err, d.eng.Close())
}

// read returns the prepared statement of the reading pool.
func (d *database) read(ctx context.Context, id statement) (*sql.Stmt, error) {
	d.used[id].Add(1)
	d.mu.Lock()
	defer d.mu.Unlock()
	if st := d.reads[id]; st != nil {
		return st, nil
	}
	st, err := d.eng.Readers().PrepareContext(ctx, d.eng.Rebind(d.texts[id]))
	if err != nil {
		return nil, fmt.Errorf("prepare statement: %w", explain(err))
	}
	d.reads[id] = st
	return st, nil
}

func (d *database) clean(args []any) []any {
	for i, a := range args {
		args[i] = d.eng.Clean(a)
	}
	return args
}

// get reads one row; ErrNotFound when there is none.
func (d *database) get(ctx context.Context, id statement, args []any, dest ...any) error {
	st, err := d.read(ctx, id)
	if err != nil {
		return err
	}
	err = st.QueryRowContext(ctx, d.clean(args)...).Scan(dest...)
	if errors.Is(err, sql.ErrNoRows) {
		return ErrNotFound
	}
	return explain(err)
}

// each reads all rows.
func (d *database) each(ctx context.Context, id statement, args []any, scan func(scanner) error) error {
	st, err := d.read(ctx, id)
	if err != nil {
		return err
	}
	rows, err := st.QueryContext(ctx, d.clean(args)...)
	if err != nil {
		return explain(err)
	}
	return explain(drain(rows, scan))
}

// all reads all rows into a list.
func all[T any](ctx context.Context, d *database, id statement, args []any, scan func(scanner) (T, error)) ([]T, error) {
	var out []T
	err := d.each(ctx, id, args, func(row scanner) error {
		one, err := scan(row)
		out = append(out, one)
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

func scanText(row scanner) (text string, err error) {
	err = row.Scan(&text)
	return text, err
}

// eachIn is each within a read transaction.
func (d *database) eachIn(ctx context.Context, tx *sql.Tx, id statement, args []any, scan func(scanner) error) error {
	st, err := d.read(ctx, id)
	if err != nil {
		return err
	}
	rows, err := tx.StmtContext(ctx, st).QueryContext(ctx, d.clean(args)...)
	if err != nil {
		return explain(err)
	}
	return explain(drain(rows, scan))
}

// query runs a text made for one call.
func (d *database) query(ctx context.Context, text string, args []any, scan func(scanner) error) error {
	rows, err := d.eng.Readers().QueryContext(ctx, d.eng.Rebind(text), d.clean(args)...)
	if err != nil {
		return explain(err)
	}
	return explain(drain(rows, scan))
}

// snapshot runs f in a read transaction: everything it reads is of one moment. The statements f uses are prepared before
// it holds a connection, so that it never waits for a second one.
func (d *database) snapshot(ctx context.Context, f func(*sql.Tx) error, uses ...statement) (err error) {
	for _, id := range uses {
		if _, err := d.read(ctx, id); err != nil {
			return err
		}
	}
	tx, err := d.eng.Readers().BeginTx(ctx, d.eng.Snapshot())
	if err != nil {
		return explain(err)
	}
	defer func() {
		if e := tx.Rollback(); e != nil && !errors.Is(e, sql.ErrTxDone) {
			err = errors.Join(err, e)
		}
	}()
	return f(tx)
}
