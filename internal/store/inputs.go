package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"

	"ostro.dev/ostro/internal/core/run"
)

// PutInput stores a question to a person.
func (tx *Tx) PutInput(in run.Input) error {
	ti, err := tx.instanceKey(in.Key)
	if err != nil {
		return fmt.Errorf("keep the question of %s: %w", keyText(in.Key), err)
	}
	form, err := json.Marshal(in.Form)
	if err != nil {
		return fmt.Errorf("keep the question of %s: %w", keyText(in.Key), err)
	}
	_, err = tx.s.exec(insertInput, ti, in.ID, in.TryNumber, string(form), micros(in.CreatedAt), optMicros(in.TimeoutAt))
	if err != nil {
		return fmt.Errorf("keep the question of %s: %w", keyText(in.Key), err)
	}
	return nil
}

// AnswerInput stores the answer to a question; ErrConflict when it has one, or does not exist.
func (tx *Tx) AnswerInput(in run.Input) error {
	answer, err := json.Marshal(in.Answer)
	if err != nil {
		return fmt.Errorf("keep the answer to %s: %w", keyText(in.Key), err)
	}
	n, err := tx.s.exec(answerInput, string(answer), in.ID)
	if err != nil {
		return fmt.Errorf("keep the answer to %s: %w", keyText(in.Key), err)
	}
	if n == 0 {
		return fmt.Errorf("keep the answer to %s: it has one: %w", keyText(in.Key), ErrConflict)
	}
	pk, err := tx.s.runKey(in.DAGID, in.RunID)
	if err != nil {
		return fmt.Errorf("keep the answer to %s: %w", keyText(in.Key), err)
	}
	return tx.emit(pk, Event{Kind: "task.answered", DAGID: in.DAGID, RunID: in.RunID, TaskID: in.TaskID, MapIndex: in.MapIndex,
		AttemptID: in.ID, Detail: detail{"options": in.Answer.Options}.json()})
}

// OpenInputs returns the questions without an answer, oldest first. Some may be of instances that do not wait any more.
func (db *DB) OpenInputs(ctx context.Context) ([]run.Input, error) {
	return db.inputs(ctx, "read open questions", openInputs)
}

// Inputs returns all questions there are, oldest first.
func (db *DB) Inputs(ctx context.Context) ([]run.Input, error) {
	return db.inputs(ctx, "read all questions", allInputs)
}

// InputsOfRun returns the questions of a DAG run, oldest first.
func (db *DB) InputsOfRun(ctx context.Context, dagID, runID string) ([]run.Input, error) {
	return db.inputs(ctx, "read the questions of "+dagID+"/"+runID, inputsOfRun, dagID, runID)
}

func (db *DB) inputs(ctx context.Context, what string, id statement, args ...any) ([]run.Input, error) {
	var ins []run.Input
	err := db.each(ctx, id, args, func(row scanner) error {
		var in run.Input
		var form string
		var answer sql.NullString
		if err := row.Scan(&in.DAGID, &in.RunID, &in.TaskID, &in.MapIndex, &in.ID, &in.TryNumber, &form, timeIn{&in.CreatedAt},
			optTimeIn{&in.TimeoutAt}, &answer); err != nil {
			return err
		}
		if err := json.Unmarshal([]byte(form), &in.Form); err != nil {
			return fmt.Errorf("form of %s: %w", in.ID, err)
		}
		if answer.Valid {
			in.Answer = &run.Answer{}
			if err := json.Unmarshal([]byte(answer.String), in.Answer); err != nil {
				return fmt.Errorf("answer to %s: %w", in.ID, err)
			}
		}
		ins = append(ins, in)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return ins, nil
}
