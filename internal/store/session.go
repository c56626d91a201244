package store

import (
	"context"
	"fmt"
	"sync/atomic"
)

// session is the writing connection with what the writer remembers of the database. Only the writer's goroutine uses it.
type session struct {
	eng   engine
	texts []string
	link  link // nil until it is needed, and after it broke

	// fault is the first error of the engine in the open transaction; it dooms the transaction, also when a closure
	// swallows it.
	fault error
	// refused is the first error of the running closure that dooms it, also when it swallows the error: a guard that did not
	// hold, or a statement the engine refused. On PostgreSQL it may come to light at a later statement than its own.
	refused error
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

// begin starts a transaction, over a new connection if need be: one that has been idle may have broken meanwhile.
func (s *session) begin(ctx context.Context) error {
	fresh := s.link == nil
	if err := s.open(ctx); err != nil {
		return err
	}
	seq, err := s.link.Begin()
	if err != nil && !fresh && !keepsConnection(err) {
		_ = s.close()
		if err := s.open(ctx); err != nil {
			return err
		}
		seq, err = s.link.Begin()
	}
	s.seq = seq
	return err
}

// open makes sure there is a connection.
func (s *session) open(ctx context.Context) error {
	if s.link != nil {
		return nil
	}
	link, err := s.eng.Writer(ctx, s.texts)
	if err != nil {
		return fmt.Errorf("open the writing connection: %w", err)
	}
	s.link = link
	return nil
}

// close gives the connection up; open makes a new one.
func (s *session) close() error {
	if s.link == nil {
		return nil
	}
	err := s.link.Close()
	s.link = nil
	return err
}

func (s *session) count(id statement) {
	s.work++
	s.used[id].Add(1)
}

// send runs a statement whose failure is the closure's: done is told, perhaps only at the closure's end, how many rows it
// changed. It costs no round trip of its own.
func (s *session) send(id statement, done func(changed int64) error, args ...any) error {
	s.count(id)
	told := done
	if done != nil {
		told = func(changed int64) error {
			err := done(changed)
			if err != nil && s.refused == nil {
				s.refused = err
			}
			return err
		}
	}
	return s.failed(s.link.Send(id, args, told))
}

// exec runs a statement and returns how many rows it changed.
func (s *session) exec(id statement, args ...any) (changed int64, err error) {
	err = s.send(id, func(n int64) error { changed = n; return nil }, args...)
	if err == nil {
		err = s.flush()
	}
	return changed, err
}

// flush returns when all that was sent has run.
func (s *session) flush() error { return s.failed(s.link.Flush()) }

// get runs a statement and scans its one row; ErrNotFound when there is none.
func (s *session) get(id statement, args []any, dest ...any) error {
	found := false
	err := s.each(id, args, func(row scanner) error {
		found = true
		return row.Scan(dest...)
	})
	if err == nil && !found {
		return ErrNotFound
	}
	return err
}

// each runs a statement and calls scan for every row.
func (s *session) each(id statement, args []any, scan func(scanner) error) error {
	s.count(id)
	return s.failed(s.link.Query(id, args, scan))
}

// failed notes an error of the engine and puts it in the package's words.
func (s *session) failed(err error) error {
	if err == nil {
		return nil
	}
	m := meaningOf(err)
	if m.fatal && s.fault == nil {
		s.fault = err
	}
	explained := explain(err)
	if m.engine && s.refused == nil {
		s.refused = explained
	}
	return explained
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
