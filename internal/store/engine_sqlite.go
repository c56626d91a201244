package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"ostro.dev/ostro/internal/store/postgres"
	"ostro.dev/ostro/internal/store/sqlite"
)

// sqliteEngine is a file of SQLite.
type sqliteEngine struct{ *sqlite.Database }

// Snapshot: every transaction of SQLite sees one moment.
func (e sqliteEngine) Snapshot() *sql.TxOptions { return &sql.TxOptions{ReadOnly: true} }

// Clean changes nothing: SQLite keeps any text.
func (e sqliteEngine) Clean(arg any) any { return arg }

// The statements around closures.
const (
	textCommit     = "COMMIT"
	textRollback   = "ROLLBACK"
	textSavepoint  = "SAVEPOINT closure"
	textRelease    = "RELEASE SAVEPOINT closure"
	textRollbackTo = "ROLLBACK TO SAVEPOINT closure"
)

func (e sqliteEngine) Writer(ctx context.Context, texts []string) (link, error) {
	conn, err := e.Database.Writer(ctx)
	if err != nil {
		return nil, err
	}
	l := &sqliteLink{eng: e, conn: conn, texts: texts, stmts: make([]*sql.Stmt, len(texts))}
	for text, stmt := range map[string]**sql.Stmt{
		e.Begin(): &l.begin, textCommit: &l.commit, textRollback: &l.rollback,
		textSavepoint: &l.savepoint, textRelease: &l.release, textRollbackTo: &l.rollbackTo,
	} {
		if *stmt, err = conn.PrepareContext(ctx, text); err != nil {
			return nil, errors.Join(fmt.Errorf("prepare %s: %w", text, err), l.Close())
		}
	}
	return l, nil
}

// sqliteLink is a connection with its prepared statements. It keeps nothing back: SQLite is in this process.
type sqliteLink struct {
	eng   sqliteEngine
	conn  *sql.Conn
	texts []string
	stmts []*sql.Stmt
	// control statements, prepared like the others
	begin, commit, rollback, savepoint, release, rollbackTo *sql.Stmt
}

func (l *sqliteLink) Begin() (int64, error) { return -1, control(l.begin) }
func (l *sqliteLink) Commit() error         { return control(l.commit) }
func (l *sqliteLink) Rollback() error       { return control(l.rollback) }
func (l *sqliteLink) Savepoint() error      { return control(l.savepoint) }
func (l *sqliteLink) Release() error        { return control(l.release) }
func (l *sqliteLink) Flush() error          { return nil }

// Outcome is never asked for: SQLite answers every commit.
func (l *sqliteLink) Outcome() postgres.Outcome { return postgres.NotCommitted }

// RollbackTo also takes the savepoint away, which SQLite would leave.
func (l *sqliteLink) RollbackTo() error {
	return errors.Join(control(l.rollbackTo), control(l.release))
}

func control(st *sql.Stmt) error {
	_, err := st.ExecContext(context.Background())
	return err
}

func (l *sqliteLink) stmt(id statement) (*sql.Stmt, error) {
	if st := l.stmts[id]; st != nil {
		return st, nil
	}
	st, err := l.conn.PrepareContext(context.Background(), l.eng.Rebind(l.texts[id]))
	if err != nil {
		return nil, fmt.Errorf("prepare statement: %w", err)
	}
	l.stmts[id] = st
	return st, nil
}

func (l *sqliteLink) Send(id statement, args []any, done func(int64) error) error {
	st, err := l.stmt(id)
	if err != nil {
		return err
	}
	res, err := st.ExecContext(context.Background(), args...)
	if err != nil || done == nil {
		return err
	}
	n, err := res.RowsAffected()
	if err != nil {
		return err
	}
	return done(n)
}

func (l *sqliteLink) Query(id statement, args []any, row func(scanner) error) error {
	st, err := l.stmt(id)
	if err != nil {
		return err
	}
	rows, err := st.QueryContext(context.Background(), args...)
	if err != nil {
		return err
	}
	return drain(rows, row)
}

func (l *sqliteLink) Close() error {
	var errs []error
	for _, st := range append(l.stmts, l.begin, l.commit, l.rollback, l.savepoint, l.release, l.rollbackTo) {
		if st != nil {
			errs = append(errs, st.Close())
		}
	}
	return errors.Join(append(errs, l.conn.Close())...)
}
