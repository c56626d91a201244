package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"ostro.dev/ostro/internal/core/plan"
	"ostro.dev/ostro/internal/core/run"
)

const taskColumns = `d.dag_id, r.run_id, t.task_id, t.map_index, t.id, t.state, t.try_number, t.max_tries, t.infra_retries,
	t.attempt_id, t.scheduled_at, t.queued_at, t.start_date, t.end_date, t.next_at, t.reason, t.note, t.rendered_map_index,
	t.reschedule_count, t.next_method, t.next_kwargs, t.hostname, t.pid, t.version`

func taskDest(t *run.TaskInstance) []any {
	return []any{&t.DAGID, &t.RunID, &t.TaskID, &t.MapIndex, &t.ID, &t.State, &t.TryNumber, &t.MaxTries, &t.InfraRetries,
		&t.AttemptID, optTimeIn{&t.ScheduledAt}, optTimeIn{&t.QueuedAt}, optTimeIn{&t.StartDate}, optTimeIn{&t.EndDate},
		optTimeIn{&t.NextAt}, &t.Reason, &t.Note, &t.RenderedMapIndex, &t.RescheduleCount, &t.NextMethod, jsonIn{&t.NextKwargs},
		&t.Hostname, &t.PID, &t.Version}
}

func scanTask(row scanner) (run.TaskInstance, error) {
	var t run.TaskInstance
	err := row.Scan(taskDest(&t)...)
	return t, err
}

// insertTask inserts an instance and sets its version to 1.
func (tx *Tx) insertTask(runKey int64, t *run.TaskInstance) error {
	err := tx.s.send(insertTask, nil, runKey, t.TaskID, t.MapIndex, t.ID, string(t.State), t.TryNumber, t.MaxTries, t.InfraRetries,
		t.AttemptID, optMicros(t.ScheduledAt), optMicros(t.QueuedAt), optMicros(t.StartDate), optMicros(t.EndDate),
		optMicros(t.NextAt), t.Reason, t.Note, t.RenderedMapIndex, t.RescheduleCount, t.NextMethod, optText(t.NextKwargs),
		t.Hostname, t.PID)
	if err != nil {
		return fmt.Errorf("create task instance %s: %w", keyText(t.Key), err)
	}
	t.Version = 1
	return nil
}

// ChangeTasks applies guarded changes in order; Before.Version 0 inserts. Each After.Version is set to Before.Version+1.
// ErrConflict when any guard fails.
func (tx *Tx) ChangeTasks(cs []plan.TaskChange) error {
	for i := range cs {
		if err := tx.changeTask(&cs[i]); err != nil {
			return err
		}
	}
	return nil
}

func (tx *Tx) changeTask(c *plan.TaskChange) error {
	t := &c.After
	pk, err := tx.s.runKey(t.DAGID, t.RunID)
	if err != nil {
		return fmt.Errorf("change task instance %s: %w", keyText(t.Key), err)
	}
	if c.Before.Version == 0 {
		if err := tx.insertTask(pk, t); err != nil {
			return err
		}
		return tx.emitTask(pk, c)
	}
	key, version := t.Key, c.Before.Version
	err = tx.writeTask(pk, c, func(changed int64) error {
		if changed == 0 { // the row is at another version, or gone
			return fmt.Errorf("change task instance %s: it is no longer at version %d: %w", keyText(key), version, ErrConflict)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("change task instance %s: %w", keyText(t.Key), err)
	}
	t.Version = c.Before.Version + 1
	return tx.emitTask(pk, c)
}

// writeTask updates the row under guard and tells done how many rows had the version. Most changes only move an instance
// on; those write few columns.
func (tx *Tx) writeTask(runKey int64, c *plan.TaskChange, done func(changed int64) error) error {
	t := &c.After
	pk, err := tx.s.taskKey(runKey, c.Before.TaskID, c.Before.MapIndex)
	if errors.Is(err, ErrNotFound) {
		return done(0)
	}
	if err != nil {
		return err
	}
	if onlyMoves(&c.Before, t) {
		return tx.s.send(moveTask, done, string(t.State), t.TryNumber, t.AttemptID, optMicros(t.ScheduledAt), optMicros(t.QueuedAt),
			optMicros(t.StartDate), optMicros(t.EndDate), t.Reason, t.Hostname, t.PID, pk, c.Before.Version)
	}
	if t.MapIndex != c.Before.MapIndex { // a mapped task unfolds: its one row becomes the first element
		delete(tx.s.tasks, taskRef{runKey, c.Before.TaskID, c.Before.MapIndex})
	}
	return tx.s.send(updateTask, done, t.MapIndex, t.ID, string(t.State), t.TryNumber, t.MaxTries, t.InfraRetries, t.AttemptID,
		optMicros(t.ScheduledAt), optMicros(t.QueuedAt), optMicros(t.StartDate), optMicros(t.EndDate), optMicros(t.NextAt),
		t.Reason, t.Note, t.RenderedMapIndex, t.RescheduleCount, t.NextMethod, optText(t.NextKwargs), t.Hostname, t.PID,
		pk, c.Before.Version)
}

// onlyMoves reports whether nothing differs but the columns moveTask writes.
func onlyMoves(a, b *run.TaskInstance) bool {
	return a.MapIndex == b.MapIndex && a.ID == b.ID && a.MaxTries == b.MaxTries && a.InfraRetries == b.InfraRetries && a.NextAt == b.NextAt &&
		a.Note == b.Note && a.RenderedMapIndex == b.RenderedMapIndex && a.RescheduleCount == b.RescheduleCount &&
		a.NextMethod == b.NextMethod && bytes.Equal(a.NextKwargs, b.NextKwargs)
}

// emitTask writes the event of a change: of state, of the note, or, for a mere update of fields, task.changed.
func (tx *Tx) emitTask(runKey int64, c *plan.TaskChange) error {
	e := Event{Kind: "task.state", DAGID: c.After.DAGID, RunID: c.After.RunID, TaskID: c.After.TaskID,
		MapIndex: c.After.MapIndex, AttemptID: c.After.AttemptID, From: string(c.Before.State), To: string(c.After.State)}
	switch {
	case c.Before.Version == 0 || c.Before.State != c.After.State || c.Before.ID != c.After.ID:
		e.Detail = reasonDetail(c.After.Reason)
	case c.Before.Note != c.After.Note:
		e.Kind, e.From, e.To = "task.note", "", ""
	default:
		e.Kind, e.From, e.To = "task.changed", "", ""
	}
	return tx.emit(runKey, e)
}

// TaskInstance returns one instance.
func (db *DB) TaskInstance(ctx context.Context, k run.Key) (run.TaskInstance, error) {
	var t run.TaskInstance
	if err := db.get(ctx, getTask, []any{k.DAGID, k.RunID, k.TaskID, k.MapIndex}, taskDest(&t)...); err != nil {
		return run.TaskInstance{}, fmt.Errorf("task instance %s: %w", keyText(k), err)
	}
	return t, nil
}

// TaskCounts counts a run's task instances by state.
func (db *DB) TaskCounts(ctx context.Context, dagID, runID string) (map[run.TaskState]int, error) {
	counts := map[run.TaskState]int{}
	err := db.each(ctx, taskCounts, []any{dagID, runID}, func(row scanner) error {
		var s run.TaskState
		var n int
		err := row.Scan(&s, &n)
		counts[s] = n
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("count the task instances of %s/%s: %w", dagID, runID, err)
	}
	return counts, nil
}

// keyText names an instance for people.
func keyText(k run.Key) string {
	if k.MapIndex < 0 {
		return k.DAGID + "/" + k.RunID + "/" + k.TaskID
	}
	return fmt.Sprintf("%s/%s/%s[%d]", k.DAGID, k.RunID, k.TaskID, k.MapIndex)
}
