package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"ostro.dev/ostro/internal/core/run"
)

// A Triggerer is a process that runs triggers, from before it is started until its end is known.
type Triggerer struct {
	AttemptID     string
	BundleVersion string
	WaitID        string // of the one trigger it runs; empty for one that runs many
	Executor      string
	Instance      string
	StartedAt     time.Time
}

// PutWait stores what an instance waits for, in place of what it waited for before.
func (tx *Tx) PutWait(w run.Wait) error {
	ti, err := tx.instanceKey(w.Key)
	if err != nil {
		return fmt.Errorf("keep what %s waits for: %w", keyText(w.Key), err)
	}
	kwargs := string(w.Kwargs)
	if kwargs == "" {
		kwargs = "{}"
	}
	if _, err := tx.s.exec(putWait, ti, w.ID, w.Classpath, kwargs, micros(w.CreatedAt), optMicros(w.TimeoutAt), truth(w.Alone)); err != nil {
		return fmt.Errorf("keep what %s waits for: %w", keyText(w.Key), err)
	}
	return nil
}

// DropWait forgets what an instance waits for. Repeating it changes nothing.
func (tx *Tx) DropWait(k run.Key) error {
	ti, err := tx.instanceKey(k)
	if errors.Is(err, ErrNotFound) {
		return nil // it has gone with its instance
	}
	if err == nil {
		_, err = tx.s.exec(deleteWait, ti)
	}
	if err != nil {
		return fmt.Errorf("forget what %s waits for: %w", keyText(k), err)
	}
	return nil
}

// MoveOpenTimes adds a duration to the times of all open attempts, waits and questions: the clock was set, and what they tell is
// how long something has been going on and how long it may. DAG runs and task instances are moved by ChangeRun and ChangeTasks.
func (tx *Tx) MoveOpenTimes(by time.Duration) error {
	for _, id := range []statement{moveOpenAttempts, moveWaits, moveOpenInputs} {
		if _, err := tx.s.exec(id, by.Microseconds(), by.Microseconds()); err != nil {
			return fmt.Errorf("move the times of what is open by %s: %w", by, err)
		}
	}
	return nil
}

// SetWaitAlone gives a wait's trigger a process of its own from now on; nothing happens when the wait is over.
func (tx *Tx) SetWaitAlone(k run.Key, id string) error {
	ti, err := tx.instanceKey(k)
	if err == nil {
		_, err = tx.s.exec(setWaitAlone, ti, id)
	}
	if err != nil {
		return fmt.Errorf("set the trigger of %s apart: %w", keyText(k), err)
	}
	return nil
}

func (tx *Tx) instanceKey(k run.Key) (int64, error) {
	pk, err := tx.s.runKey(k.DAGID, k.RunID)
	if err != nil {
		return 0, err
	}
	return tx.s.taskKey(pk, k.TaskID, k.MapIndex)
}

// Waits returns what all deferred instances wait for.
func (db *DB) Waits(ctx context.Context) ([]run.Wait, error) {
	var ws []run.Wait
	err := db.each(ctx, waits, nil, func(row scanner) error {
		var w run.Wait
		err := row.Scan(&w.DAGID, &w.RunID, &w.TaskID, &w.MapIndex, &w.ID, &w.Classpath, jsonIn{&w.Kwargs}, timeIn{&w.CreatedAt},
			optTimeIn{&w.TimeoutAt}, &w.Alone)
		ws = append(ws, w)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read what deferred instances wait for: %w", err)
	}
	return ws, nil
}

// PutTriggerer stores a triggerer before it is started.
func (tx *Tx) PutTriggerer(t Triggerer) error {
	_, err := tx.s.exec(insertTriggerer, t.AttemptID, t.BundleVersion, t.WaitID, t.Executor, t.Instance, micros(t.StartedAt))
	if err != nil {
		return fmt.Errorf("keep triggerer %s: %w", t.AttemptID, err)
	}
	return nil
}

// DropTriggerer forgets a triggerer that has ended. Repeating it changes nothing.
func (tx *Tx) DropTriggerer(attemptID string) error {
	if _, err := tx.s.exec(deleteTriggerer, attemptID); err != nil {
		return fmt.Errorf("forget triggerer %s: %w", attemptID, err)
	}
	return nil
}

// Triggerers returns the triggerers whose end is not known.
func (db *DB) Triggerers(ctx context.Context) ([]Triggerer, error) {
	var ts []Triggerer
	err := db.each(ctx, triggerers, nil, func(row scanner) error {
		var t Triggerer
		err := row.Scan(&t.AttemptID, &t.BundleVersion, &t.WaitID, &t.Executor, &t.Instance, timeIn{&t.StartedAt})
		ts = append(ts, t)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read triggerers: %w", err)
	}
	return ts, nil
}
