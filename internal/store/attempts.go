package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"ostro.dev/ostro/internal/core/run"
)

const attemptColumns = `d.dag_id, r.run_id, t.task_id, t.map_index, a.attempt_id, a.try_number, a.state, a.instance, a.executor,
	a.queued_at, a.started_at, a.ended_at, a.pid, a.hostname, a.exit_code, a.signal, a.reason, a.infra, a.isolation,
	a.isolation_reason, a.notices, a.max_rss, a.cpu_us, a.rendered, a.gpus, a.gpu_use`

func attemptDest(a *run.Attempt) []any {
	return []any{&a.DAGID, &a.RunID, &a.TaskID, &a.MapIndex, &a.ID, &a.TryNumber, &a.State, &a.Instance, &a.Executor,
		timeIn{&a.QueuedAt}, optTimeIn{&a.StartedAt}, optTimeIn{&a.EndedAt}, &a.PID, &a.Hostname, optIntIn{&a.ExitCode}, &a.Signal,
		&a.Reason, &a.Infra, &a.Isolation, &a.IsolationReason, stringsIn{&a.Notices}, &a.MaxRSS, durationIn{&a.CPUTime},
		jsonIn{&a.Rendered}, decodeIn{&a.GPUs}, decodeIn{&a.GPUUse}}
}

func scanAttempt(row scanner) (run.Attempt, error) {
	var a run.Attempt
	err := row.Scan(attemptDest(&a)...)
	return a, err
}

// CreateAttempt inserts a queued attempt with the hash of its token and the GPUs it holds from then on.
func (tx *Tx) CreateAttempt(a run.Attempt, tokenHash []byte) error {
	pk, err := tx.s.runKey(a.DAGID, a.RunID)
	if err != nil {
		return fmt.Errorf("create attempt %s: %w", a.ID, err)
	}
	ti, err := tx.s.taskKey(pk, a.TaskID, a.MapIndex)
	if err != nil {
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
	if err := tx.s.send(insertAttempt, nil, ti, a.ID, a.TryNumber, a.Instance, a.Executor, micros(queued), hash); err != nil {
		return fmt.Errorf("create attempt %s of %s: %w", a.ID, keyText(a.Key), err)
	}
	if len(a.GPUs) > 0 { // few do; the statement of all others is none the longer
		if err := tx.setAttemptJSON(setAttemptGPUs, a.ID, a.GPUs); err != nil {
			return fmt.Errorf("create attempt %s of %s: %w", a.ID, keyText(a.Key), err)
		}
	}
	return tx.emit(pk, Event{Kind: "attempt.queued", DAGID: a.DAGID, RunID: a.RunID, TaskID: a.TaskID, MapIndex: a.MapIndex,
		AttemptID: a.ID, To: string(run.Queued), Detail: tryDetail(a.TryNumber)})
}

// StartAttempt records that the process exists (state running). Repeating it changes nothing; after the attempt's end
// it returns ErrConflict.
func (tx *Tx) StartAttempt(a run.Attempt) error {
	started := a.StartedAt
	if started == nil {
		started = &tx.Now
	}
	e := Event{Kind: "attempt.started", From: string(run.Queued), To: string(run.Running), Actor: tx.Actor}
	err := tx.s.send(startAttempt, func(changed int64) error {
		if changed > 0 {
			return tx.emitAttempt(a, e)
		}
		switch _, _, state, err := tx.storedAttempt(a.ID); {
		case err != nil:
			return fmt.Errorf("start attempt %s: %w", a.ID, err)
		case state == run.Running:
			return nil
		default:
			return fmt.Errorf("start attempt %s: it has ended (%s): %w", a.ID, state, ErrConflict)
		}
	}, micros(*started), a.PID, a.Hostname, a.Isolation, a.IsolationReason, a.ID)
	if err != nil {
		return fmt.Errorf("start attempt %s: %w", a.ID, err)
	}
	return nil
}

// EndAttempt records the end, and revokes the token. A second call for the same attempt returns ErrConflict. What a
// leaves empty and StartAttempt has recorded (start, pid, host, isolation) stays.
func (tx *Tx) EndAttempt(a run.Attempt) error {
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
	if err := tx.RecordGPUUse(a); err != nil {
		return fmt.Errorf("end attempt %s: %w", a.ID, err)
	}
	err := tx.s.send(endAttempt, func(changed int64) error {
		if changed > 0 {
			return nil
		}
		_, _, state, err := tx.storedAttempt(a.ID)
		if err == nil {
			err = fmt.Errorf("it has ended (%s): %w", state, ErrConflict)
		}
		return fmt.Errorf("end attempt %s: %w", a.ID, err)
	}, string(a.State), optMicros(a.StartedAt), micros(*ended), a.PID, a.Hostname, optInt(a.ExitCode), a.Signal, a.Reason,
		truth(a.Infra), a.Isolation, a.IsolationReason, notices, a.MaxRSS, a.CPUTime.Microseconds(), optText(a.Rendered), a.ID)
	if err != nil {
		return fmt.Errorf("end attempt %s: %w", a.ID, err)
	}
	return tx.emitAttempt(a, Event{Kind: "attempt.ended", To: string(a.State), Detail: endDetail(a)})
}

// RecordGPUUse stores what an attempt was seen to use of its GPUs, in place of what was stored before. Without a use it
// changes nothing.
func (tx *Tx) RecordGPUUse(a run.Attempt) error {
	if a.GPUUse == nil {
		return nil
	}
	return tx.setAttemptJSON(setAttemptGPUUse, a.ID, a.GPUUse)
}

func (tx *Tx) setAttemptJSON(id statement, attemptID string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return tx.s.send(id, nil, string(b), attemptID)
}

// emitAttempt appends an event about an attempt. A caller that knows only the id is helped out.
func (tx *Tx) emitAttempt(a run.Attempt, e Event) error {
	k := a.Key
	var runKey int64
	var err error
	if k.DAGID == "" || k.RunID == "" || k.TaskID == "" {
		k, runKey, _, err = tx.storedAttempt(a.ID)
	} else {
		runKey, err = tx.s.runKey(k.DAGID, k.RunID)
	}
	if err != nil {
		return fmt.Errorf("append event %s: %w", e.Kind, err)
	}
	e.DAGID, e.RunID, e.TaskID, e.MapIndex, e.AttemptID = k.DAGID, k.RunID, k.TaskID, k.MapIndex, a.ID
	return tx.emit(runKey, e)
}

// storedAttempt looks up where an attempt belongs and how it stands now.
func (tx *Tx) storedAttempt(id string) (k run.Key, runKey int64, state run.TaskState, err error) {
	err = tx.s.get(getAttemptState, []any{id}, &state, &k.DAGID, &k.RunID, &k.TaskID, &k.MapIndex, &runKey)
	return k, runKey, state, err
}

// StillOpen returns ErrConflict when an attempt has ended: its successor may have begun. An attempt without a row, as of a
// callback, counts as open.
func (tx *Tx) StillOpen(attemptID string) error {
	_, _, state, err := tx.storedAttempt(attemptID)
	switch {
	case errors.Is(err, ErrNotFound):
		return nil
	case err != nil:
		return fmt.Errorf("look at attempt %s: %w", attemptID, err)
	case state != run.Queued && state != run.Running:
		return fmt.Errorf("attempt %s has ended (%s): %w", attemptID, state, ErrConflict)
	}
	return nil
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
	as, err := all(ctx, db.database, id, args, scanAttempt)
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
