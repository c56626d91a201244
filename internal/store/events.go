package store

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"strconv"

	"ostro.dev/ostro/internal/core/run"
)

const eventColumns = `e.seq, e.at, e.actor, e.kind, e.dag_id, e.run_id, e.task_id, e.map_index, e.attempt_id, e.from_state,
	e.to_state, e.detail`

func scanEvent(row scanner) (Event, error) {
	var e Event
	err := row.Scan(&e.Seq, timeIn{&e.At}, &e.Actor, &e.Kind, &e.DAGID, &e.RunID, &e.TaskID, &e.MapIndex, &e.AttemptID, &e.From,
		&e.To, jsonIn{&e.Detail})
	return e, err
}

// Emit appends an event to the log; every scheduling write emits its own already. Empty At and Actor are the
// transaction's. A secret must never stand in an event.
func (tx *Tx) Emit(e Event) error {
	var pk int64
	if e.DAGID != "" && e.RunID != "" {
		var err error
		if pk, err = tx.s.runKey(e.DAGID, e.RunID); ignoreNotFound(err) != nil {
			return fmt.Errorf("append event %s: %w", e.Kind, err)
		}
	}
	return tx.emit(pk, e)
}

// emit appends an event about the run with this surrogate key, 0 for none.
func (tx *Tx) emit(runKey int64, e Event) error {
	at, actor := tx.Now, tx.Actor
	if !e.At.IsZero() {
		at = e.At
	}
	if e.Actor != "" {
		actor = e.Actor
	}
	var pk any
	if runKey != 0 {
		pk = runKey
	}
	seq, err := tx.s.nextEvent()
	if err != nil {
		return fmt.Errorf("append event %s: %w", e.Kind, err)
	}
	if err := tx.s.send(insertEvent, nil, seq, micros(at), actor, e.Kind, e.DAGID, e.RunID, e.TaskID, e.MapIndex, e.AttemptID, e.From,
		e.To, optText(e.Detail), pk); err != nil {
		return fmt.Errorf("append event %s: %w", e.Kind, err)
	}
	return nil
}

// nextEvent numbers the next event. The newest number is read once a transaction, which holds the write lock from its
// beginning: nobody else can append meanwhile, also no other process.
func (s *session) nextEvent() (int64, error) {
	if s.seq < 0 {
		if err := s.get(newestEvent, nil, &s.seq); err != nil {
			s.seq = -1
			return 0, err
		}
	}
	s.seq++
	return s.seq, nil
}

// Events returns up to limit events after sequence number after, in commit order. Limit 0 means no limit.
func (db *DB) Events(ctx context.Context, after int64, limit int) ([]Event, error) {
	if limit <= 0 {
		limit = math.MaxInt32
	}
	es, err := all(ctx, db.database, eventsAfter, []any{after, limit}, scanEvent)
	if err != nil {
		return nil, fmt.Errorf("read events after %d: %w", after, err)
	}
	return es, nil
}

// LastEvent returns the newest sequence number, 0 for an empty log: where a reader that wants only news begins.
func (db *DB) LastEvent(ctx context.Context) (int64, error) {
	var seq int64
	if err := db.get(ctx, newestEvent, nil, &seq); err != nil {
		return 0, fmt.Errorf("read the newest event: %w", err)
	}
	return seq, nil
}

// detail is what an event says beyond its columns.
type detail map[string]any

func (d detail) json() json.RawMessage {
	b, err := json.Marshal(d)
	if err != nil { // only values of this package get here
		return nil
	}
	return b
}

// The hot details are written by hand: they stand in every commit.

func reasonDetail(reason string) json.RawMessage {
	if reason == "" {
		return nil
	}
	return detail{"reason": reason}.json()
}

func tryDetail(try int) json.RawMessage {
	return append(strconv.AppendInt([]byte(`{"try":`), int64(try), 10), '}')
}

func endDetail(a run.Attempt) json.RawMessage {
	if a.Reason == "" && a.ExitCode == nil && a.Signal == "" && !a.Infra {
		return nil
	}
	d := detail{}
	if a.Reason != "" {
		d["reason"] = a.Reason
	}
	if a.ExitCode != nil {
		d["exit_code"] = *a.ExitCode
	}
	if a.Signal != "" {
		d["signal"] = a.Signal
	}
	if a.Infra {
		d["infra"] = true
	}
	return d.json()
}
