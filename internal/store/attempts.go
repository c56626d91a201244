package store

import (
	"context"
	"encoding/json"
	"fmt"

	"ostro.dev/ostro/internal/core/run"
)

const attemptColumns = `d.dag_id, r.run_id, t.task_id, t.map_index, a.attempt_id, a.try_number, a.state, a.instance, a.executor,
	a.queued_at, a.started_at, a.ended_at, a.pid, a.hostname, a.exit_code, a.signal, a.reason, a.infra, a.isolation,
	a.isolation_reason, a.notices, a.max_rss, a.cpu_us, a.rendered`

func attemptDest(a *run.Attempt) []any {
	return []any{&a.DAGID, &a.RunID, &a.TaskID, &a.MapIndex, &a.ID, &a.TryNumber, &a.State, &a.Instance, &a.Executor,
		timeIn{&a.QueuedAt}, optTimeIn{&a.StartedAt}, optTimeIn{&a.EndedAt}, &a.PID, &a.Hostname, optIntIn{&a.ExitCode}, &a.Signal,
		&a.Reason, &a.Infra, &a.Isolation, &a.IsolationReason, stringsIn{&a.Notices}, &a.MaxRSS, durationIn{&a.CPUTime},
		jsonIn{&a.Rendered}}
}

func scanAttempt(row scanner) (run.Attempt, error) {
	var a run.Attempt
	err := row.Scan(attemptDest(&a)...)
	return a, err
}

// CreateAttempt inserts a queued attempt with the hash of its token.
func (tx *Tx) CreateAttempt(a run.Attempt, tokenHash []byte) error {
	pk, err := tx.s.runKey(a.DAGID, a.RunID)
	if err != nil {
		return fmt.Errorf("create attempt %s: %w", a.ID, err)
	}
	var ti int64
	if err := tx.s.get(getTaskKey, []any{pk, a.TaskID, a.MapIndex}, &ti); err != nil {
		return fmt.Errorf("create attempt %s of %s: %w", a.ID, keyText(a.Key), err)
	}
	var hash any
	if len(tokenHash) > 0 {
		hash = tokenHash
	}
	queued := a.QueuedAt
	if queued.IsZero() {
		queued = tx.Now
	}
	if _, err := tx.s.exec(insertAttempt, ti, a.ID, a.TryNumber, a.Instance, a.Executor, micros(queued), hash); err != nil {
		return fmt.Errorf("create attempt %s of %s: %w", a.ID, keyText(a.Key), err)
	}
	return tx.emit(pk, Event{Kind: "attempt.queued", DAGID: a.DAGID, RunID: a.RunID, TaskID: a.TaskID, MapIndex: a.MapIndex,
		AttemptID: a.ID, To: string(run.Queued), Detail: tryDetail(a.TryNumber)})
}

// StartAttempt records that the process exists (state running). Repeating it changes nothing; after the attempt's end
// it returns ErrConflict.
func (tx *Tx) StartAttempt(a run.Attempt) error {
	at := tx.attemptKey(a)
	started := a.StartedAt
	if started == nil {
		started = &tx.Now
	}
	n, err := tx.s.exec(startAttempt, micros(*started), a.PID, a.Hostname, a.Isolation, a.IsolationReason, a.ID)
	if err != nil {
		return fmt.Errorf("start attempt %s: %w", a.ID, err)
	}
	if n == 0 {
		switch stored, err := at(); {
		case err != nil:
			return fmt.Errorf("start attempt %s: %w", a.ID, err)
		case stored.state == run.Running:
			return nil
		default:
			return fmt.Errorf("start attempt %s: it has ended (%s): %w", a.ID, stored.state, ErrConflict)
		}
	}
	stored, err := at()
	if err != nil {
		return fmt.Errorf("start attempt %s: %w", a.ID, err)
	}
	return tx.emit(stored.runKey, Event{Kind: "attempt.started", DAGID: stored.DAGID, RunID: stored.RunID, TaskID: stored.TaskID,
		MapIndex: stored.MapIndex, AttemptID: a.ID, From: string(run.Queued), To: string(run.Running)})
}

// EndAttempt records the end, and revokes the token. A second call for the same attempt returns ErrConflict. What a
// leaves empty and StartAttempt has recorded (start, pid, host, isolation) stays.
func (tx *Tx) EndAttempt(a run.Attempt) error {
	stored, err := tx.attemptKey(a)()
	if err != nil {
		return fmt.Errorf("end attempt %s: %w", a.ID, err)
	}
	var notices any
	if len(a.Notices) > 0 {
		b, err := json.Marshal(a.Notices)
		if err != nil {
			return fmt.Errorf("end attempt %s: %w", a.ID, err)
		}
		notices = string(b)
	}
	ended := a.EndedAt
	if ended == nil {
		ended = &tx.Now
	}
	n, err := tx.s.exec(endAttempt, string(a.State), optMicros(a.StartedAt), micros(*ended), a.PID, a.Hostname,
		optInt(a.ExitCode), a.Signal, a.Reason, truth(a.Infra), a.Isolation, a.IsolationReason, notices, a.MaxRSS,
		a.CPUTime.Microseconds(), optText(a.Rendered), a.ID)
	if err != nil {
		return fmt.Errorf("end attempt %s: %w", a.ID, err)
	}
	if n == 0 {
		return fmt.Errorf("end attempt %s: it has ended (%s): %w", a.ID, stored.state, ErrConflict)
	}
	return tx.emit(stored.runKey, Event{Kind: "attempt.ended", DAGID: stored.DAGID, RunID: stored.RunID, TaskID: stored.TaskID,
		MapIndex: stored.MapIndex, AttemptID: a.ID, From: string(stored.state), To: string(a.State), Detail: endDetail(a)})
}

type attemptRow struct {
	run.Key
	state  run.TaskState
	runKey int64
}

// attemptKey returns a lookup of where an attempt belongs, as it stands now.
func (tx *Tx) attemptKey(a run.Attempt) func() (attemptRow, error) {
	return func() (attemptRow, error) {
		var r attemptRow
		err := tx.s.get(getAttemptState, []any{a.ID}, &r.state, &r.DAGID, &r.RunID, &r.TaskID, &r.MapIndex, &r.runKey)
		return r, err
	}
}

// OpenAttempts returns attempts in state queued or running, oldest first.
func (db *DB) OpenAttempts(ctx context.Context) ([]run.Attempt, error) {
	return db.attempts(ctx, "read open attempts", openAttempts)
}

// Attempts lists the attempts of an instance, oldest first.
func (db *DB) Attempts(ctx context.Context, k run.Key) ([]run.Attempt, error) {
	return db.attempts(ctx, "read the attempts of "+keyText(k), attemptsOfTask, k.DAGID, k.RunID, k.TaskID, k.MapIndex)
}

// RunAttempts lists all attempts of a DAG run, by instance and try.
func (db *DB) RunAttempts(ctx context.Context, dagID, runID string) ([]run.Attempt, error) {
	return db.attempts(ctx, "read the attempts of "+dagID+"/"+runID, attemptsOfRun, dagID, runID)
}

func (db *DB) attempts(ctx context.Context, what string, id statement, args ...any) ([]run.Attempt, error) {
	var as []run.Attempt
	err := db.each(ctx, id, args, func(row scanner) error {
		a, err := scanAttempt(row)
		as = append(as, a)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return as, nil
}

// AttemptByToken returns the live attempt a token hash belongs to; ErrNotFound after its end.
func (db *DB) AttemptByToken(ctx context.Context, hash []byte) (run.Attempt, error) {
	return db.attempt(ctx, "attempt by token", getAttemptByToken, hash)
}

// Attempt returns one attempt by id.
func (db *DB) Attempt(ctx context.Context, id string) (run.Attempt, error) {
	return db.attempt(ctx, "attempt "+id, getAttempt, id)
}

func (db *DB) attempt(ctx context.Context, what string, id statement, arg any) (run.Attempt, error) {
	var a run.Attempt
	if err := db.get(ctx, id, []any{arg}, attemptDest(&a)...); err != nil {
		return run.Attempt{}, fmt.Errorf("%s: %w", what, err)
	}
	return a, nil
}
