package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync/atomic"
)

// session is the writing connection with its prepared statements. Only the writer's goroutine uses it.
type session struct {
	eng   engine
	texts []string
	conn  *sql.Conn
	stmts []*sql.Stmt
	// control statements, prepared like the others
	begin, commit, rollback, savepoint, release, rollbackTo *sql.Stmt

	// fault is the first error of the engine in the open transaction; it dooms the transaction, also when a closure
	// swallows it.
	fault error
	// runs and tasks remember surrogate keys of DAG runs and task instances; forgotten at every rollback.
	runs  map[runRef]int64
	tasks map[taskRef]int64
	// seq is the number of the newest event as the open transaction sees it; -1 when it must be read.
	seq int64
	// work counts statements since the last checkpoint was asked for.
	work int
	used []atomic.Uint64
}

type runRef struct{ dagID, runID string }

type taskRef struct {
	runKey   int64
	taskID   string
	mapIndex int
}

const maxRefs = 20_000

// open makes sure there is a connection.
func (s *session) open(ctx context.Context) error {
	if s.conn != nil {
		return nil
	}
	conn, err := s.eng.Writer(ctx)
	if err != nil {
		return fmt.Errorf("open the writing connection: %w", err)
	}
	s.conn, s.stmts = conn, make([]*sql.Stmt, len(s.texts))
	for text, stmt := range map[string]**sql.Stmt{
		s.eng.Begin(): &s.begin, textCommit: &s.commit, textRollback: &s.rollback,
		textSavepoint: &s.savepoint, textRelease: &s.release, textRollbackTo: &s.rollbackTo,
	} {
		if *stmt, err = conn.PrepareContext(ctx, text); err != nil {
			return errors.Join(fmt.Errorf("prepare %s: %w", text, err), s.close())
		}
	}
	return nil
}

// close gives the connection up; open makes a new one.
func (s *session) close() error {
	if s.conn == nil {
		return nil
	}
	var errs []error
	for _, st := range append(s.stmts, s.begin, s.commit, s.rollback, s.savepoint, s.release, s.rollbackTo) {
		if st != nil {
			errs = append(errs, st.Close())
		}
	}
	errs = append(errs, s.conn.Close())
	s.conn, s.stmts = nil, nil
	s.begin, s.commit, s.rollback, s.savepoint, s.release, s.rollbackTo = nil, nil, nil, nil, nil, nil
	return errors.Join(errs...)
}

func (s *session) stmt(id statement) (*sql.Stmt, error) {
	s.work++
	s.used[id].Add(1)
	if st := s.stmts[id]; st != nil {
		return st, nil
	}
	st, err := s.conn.PrepareContext(context.Background(), s.eng.Rebind(s.texts[id]))
	if err != nil {
		return nil, s.failed(fmt.Errorf("prepare statement: %w", err))
	}
	s.stmts[id] = st
	return st, nil
}

// exec runs a statement and returns how many rows it changed.
func (s *session) exec(id statement, args ...any) (int64, error) {
	st, err := s.stmt(id)
	if err != nil {
		return 0, err
	}
	res, err := st.ExecContext(context.Background(), args...)
	if err != nil {
		return 0, s.failed(err)
	}
	n, err := res.RowsAffected()
	return n, err
}

// get runs a statement and scans its one row; ErrNotFound when there is none.
func (s *session) get(id statement, args []any, dest ...any) error {
	st, err := s.stmt(id)
	if err != nil {
		return err
	}
	err = st.QueryRowContext(context.Background(), args...).Scan(dest...)
	if errors.Is(err, sql.ErrNoRows) {
		return ErrNotFound
	}
	return s.failed(err)
}

// each runs a statement and calls scan for every row.
func (s *session) each(id statement, args []any, scan func(scanner) error) error {
	st, err := s.stmt(id)
	if err != nil {
		return err
	}
	rows, err := st.QueryContext(context.Background(), args...)
	if err != nil {
		return s.failed(err)
	}
	return s.failed(drain(rows, scan))
}

// failed notes an error of the engine and puts it in the package's words.
func (s *session) failed(err error) error {
	if err == nil {
		return nil
	}
	if fatal(err) && s.fault == nil {
		s.fault = err
	}
	return explain(err)
}

// forget drops what may no longer be so after a rollback.
func (s *session) forget() {
	clear(s.runs)
	clear(s.tasks)
	s.seq = -1
}

// runKey returns the surrogate key of a DAG run.
func (s *session) runKey(dagID, runID string) (int64, error) {
	ref := runRef{dagID, runID}
	if pk, ok := s.runs[ref]; ok {
		return pk, nil
	}
	var pk int64
	if err := s.get(getRunKey, []any{dagID, runID}, &pk); err != nil {
		return 0, fmt.Errorf("DAG run %s/%s: %w", dagID, runID, err)
	}
	s.remember(ref, pk)
	return pk, nil
}

func (s *session) remember(ref runRef, pk int64) {
	if len(s.runs) >= maxRefs {
		s.forget()
	}
	s.runs[ref] = pk
}

// taskKey returns the surrogate key of a task instance.
func (s *session) taskKey(runKey int64, taskID string, mapIndex int) (int64, error) {
	ref := taskRef{runKey, taskID, mapIndex}
	if pk, ok := s.tasks[ref]; ok {
		return pk, nil
	}
	var pk int64
	if err := s.get(getTaskKey, []any{runKey, taskID, mapIndex}, &pk); err != nil {
		return 0, err
	}
	if len(s.tasks) >= maxRefs {
		clear(s.tasks)
	}
	s.tasks[ref] = pk
	return pk, nil
}
