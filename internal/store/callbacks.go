package store

import (
	"context"
	"database/sql"
	"fmt"

	"ostro.dev/ostro/internal/core/plan"
	"ostro.dev/ostro/internal/core/run"
)

// OweCallback stores a callback to be run until CallbackDone; it returns its id.
func (tx *Tx) OweCallback(c plan.Callback) (int64, error) {
	pk, err := tx.s.runKey(c.DAGID, c.RunID)
	if err != nil {
		return 0, fmt.Errorf("owe %s of %s/%s: %w", c.Kind, c.DAGID, c.RunID, err)
	}
	e := Event{Kind: "callback.owed", DAGID: c.DAGID, RunID: c.RunID, MapIndex: -1, AttemptID: c.AttemptID}
	var taskID, mapIndex any
	if c.Task != nil {
		taskID, mapIndex = c.Task.TaskID, c.Task.MapIndex
		e.TaskID, e.MapIndex = c.Task.TaskID, c.Task.MapIndex
	}
	var id int64
	err = tx.s.get(oweCallback, []any{pk, taskID, mapIndex, c.AttemptID, c.Kind, c.Reason, micros(tx.Now)}, &id)
	if err != nil {
		return 0, fmt.Errorf("owe %s of %s/%s: %w", c.Kind, c.DAGID, c.RunID, err)
	}
	e.Detail = detail{"callback": c.Kind, "id": id}.json()
	return id, tx.emit(pk, e)
}

// CallbackDone ends a callback with the error it raised, if any, and counts the try. Repeating it changes nothing.
func (tx *Tx) CallbackDone(id int64, failure string) error {
	n, err := tx.s.exec(callbackDone, micros(tx.Now), failure, id)
	if err != nil {
		return fmt.Errorf("end callback %d: %w", id, err)
	}
	return tx.emitCallback(id, n, "callback.done", failure)
}

// CallbackTried counts a try of a callback that is still owed: its process died before it could say how it went.
func (tx *Tx) CallbackTried(id int64) error {
	n, err := tx.s.exec(callbackTried, id)
	if err != nil {
		return fmt.Errorf("count a try of callback %d: %w", id, err)
	}
	return tx.emitCallback(id, n, "callback.tried", "")
}

func (tx *Tx) emitCallback(id, changed int64, kind, failure string) error {
	e := Event{Kind: kind}
	var callback string
	var tries int
	var runKey int64
	err := tx.s.get(getCallback, []any{id}, &e.DAGID, &e.RunID, &e.TaskID, &e.MapIndex, &e.AttemptID, &callback, &tries, &runKey)
	if err != nil {
		return fmt.Errorf("callback %d: %w", id, err)
	}
	if changed == 0 {
		return nil
	}
	d := detail{"callback": callback, "id": id, "tries": tries}
	if failure != "" {
		d["failure"] = failure
	}
	e.Detail = d.json()
	return tx.emit(runKey, e)
}

// OwedCallbacks returns callbacks not done, oldest first.
func (db *DB) OwedCallbacks(ctx context.Context) ([]OwedCallback, error) {
	var cs []OwedCallback
	err := db.each(ctx, owedCallbacks, nil, func(row scanner) error {
		var o OwedCallback
		var taskID sql.NullString
		var mapIndex sql.NullInt64
		if err := row.Scan(&o.ID, &o.Callback.DAGID, &o.Callback.RunID, &taskID, &mapIndex, &o.Callback.AttemptID,
			&o.Callback.Kind, &o.Callback.Reason, &o.Tries, timeIn{&o.Created}); err != nil {
			return err
		}
		if taskID.Valid {
			o.Callback.Task = &run.Key{DAGID: o.Callback.DAGID, RunID: o.Callback.RunID, TaskID: taskID.String,
				MapIndex: int(mapIndex.Int64)}
		}
		cs = append(cs, o)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read owed callbacks: %w", err)
	}
	return cs, nil
}
