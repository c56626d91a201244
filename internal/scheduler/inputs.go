package scheduler

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/executor"
	"ostro.dev/ostro/internal/store"
)

// A task that awaits input has a wait without a trigger and a question beside it. The answer, or its deadline, lets it go
// on: its event is what Airflow's human-in-the-loop operators expect.

// AnswerRequest answers the question of a task instance.
type AnswerRequest struct {
	Key     run.Key
	Options []string
	Params  json.RawMessage // an object, or nothing
	By      run.Person
}

// Answer answers a question: ErrNotFound when none was asked, ErrConflict when it has been answered or the task does not
// wait any more, ErrNotAllowed when others are asked, ErrInvalid when it does not fit what was asked.
func (s *Scheduler) Answer(ctx context.Context, actor string, r AnswerRequest) (run.Input, error) {
	var out run.Input
	err := s.call(ctx, message{actor: actor, fold: func(b *batch) error {
		w := s.st.waits.byKey[r.Key]
		if w == nil || w.input == nil {
			return s.noQuestion(b.ctx, r.Key)
		}
		if err := mayAnswer(w.input.Form, r.By); err != nil {
			return err
		}
		if err := fits(w.input.Form, r); err != nil {
			return err
		}
		by := r.By
		out = s.answer(b, w, run.Answer{At: b.now, By: &by, Options: r.Options, Params: r.Params})
		return nil
	}})
	return answered(&out, err)
}

// noQuestion says why there is nothing to answer.
func (s *Scheduler) noQuestion(ctx context.Context, k run.Key) error {
	asked, err := s.store.InputsOfRun(ctx, k.DAGID, k.RunID)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	for _, in := range slices.Backward(asked) {
		switch {
		case in.Key != k:
		case in.Answer != nil:
			return fmt.Errorf("the question of %s has been answered already and is not allowed to be answered again: %w", describe(k), ErrConflict)
		default:
			return fmt.Errorf("%s does not wait for an answer any more: %w", describe(k), ErrConflict)
		}
	}
	return fmt.Errorf("%s has asked nothing: %w", describe(k), ErrNotFound)
}

// mayAnswer refuses who is not among those who are asked, by id, as in Airflow. Where nobody in particular is, anybody may.
func mayAnswer(f run.Form, by run.Person) error {
	if len(f.Assigned) == 0 || slices.ContainsFunc(f.Assigned, func(p run.Person) bool { return p.ID == by.ID }) {
		return nil
	}
	ids := make([]string, len(f.Assigned))
	for i, p := range f.Assigned {
		ids[i] = p.ID
	}
	return fmt.Errorf("User=%s (id=%s) is not a respondent for the task; it asks %s: %w", by.Name, by.ID, quoted(ids), ErrNotAllowed)
}

// fits tells what of an answer does not fit the form.
func fits(f run.Form, r AnswerRequest) error {
	if len(r.Options) == 0 {
		return fmt.Errorf("choose one of the options %s: %w", quoted(f.Options), ErrInvalid)
	}
	for _, chosen := range r.Options {
		if !slices.Contains(f.Options, chosen) {
			return fmt.Errorf("invalid option %q; allowed options are %s: %w", chosen, quoted(f.Options), ErrInvalid)
		}
	}
	if !f.Multiple && len(r.Options) > 1 {
		return fmt.Errorf("several options were chosen, and this task takes one: %w", ErrInvalid)
	}
	return fieldsFit(fieldsOf(f.Params), r.Params)
}

// field is one thing to fill in.
type field struct {
	Value  json.RawMessage `json:"value"`
	Schema struct {
		Type any `json:"type"`
	} `json:"schema"`
}

// needed tells whether a field must be filled in: it has no value of its own and may not be null.
func (f field) needed() bool {
	if len(f.Value) > 0 && string(f.Value) != "null" {
		return false
	}
	switch t := f.Schema.Type.(type) {
	case string:
		return t != "null"
	case []any:
		return !slices.Contains(t, any("null"))
	}
	return false
}

func fieldsOf(params json.RawMessage) map[string]field {
	var fields map[string]field
	if json.Unmarshal(params, &fields) != nil {
		return nil
	}
	return fields
}

func fieldsFit(asked map[string]field, params json.RawMessage) error {
	var given map[string]json.RawMessage
	if len(params) > 0 && json.Unmarshal(params, &given) != nil {
		return fmt.Errorf("params_input is no JSON object: %w", ErrInvalid)
	}
	for _, name := range slices.Sorted(maps.Keys(given)) {
		if _, known := asked[name]; !known {
			return fmt.Errorf("there is no field %q; the fields are %s: %w", name, quoted(slices.Sorted(maps.Keys(asked))), ErrInvalid)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(asked)) {
		if _, there := given[name]; !there && asked[name].needed() {
			return fmt.Errorf("the field %q must be filled in: %w", name, ErrInvalid)
		}
	}
	return nil
}

func quoted(words []string) string {
	out := make([]string, len(words))
	for i, w := range words {
		out[i] = fmt.Sprintf("%q", w)
	}
	return strings.Join(out, ", ")
}

// answer stores an answer and lets the task go on with it.
func (s *Scheduler) answer(b *batch, w *wait, a run.Answer) run.Input {
	in := *w.input
	a.Params = filled(in.Form.Params, a.Params)
	in.Answer = &a
	b.waits = append(b.waits, waitOp{key: w.Key, answered: &in})
	s.fire(b, w, eventOf(a))
	return in
}

// filled are the values of all fields: what was filled in, and the defaults for the rest.
func filled(asked, given json.RawMessage) json.RawMessage {
	values := map[string]json.RawMessage{}
	_ = json.Unmarshal(given, &values)
	for name, f := range fieldsOf(asked) {
		if _, there := values[name]; !there && len(f.Value) > 0 {
			values[name] = f.Value
		}
	}
	out, err := json.Marshal(values)
	if err != nil {
		return json.RawMessage("{}")
	}
	return out
}

// eventOf is what the task is resumed with.
func eventOf(a run.Answer) json.RawMessage {
	out, err := json.Marshal(map[string]any{
		"chosen_options": a.Options, "params_input": a.Params, "responded_by_user": a.By, "timedout": a.By == nil,
		"responded_at": map[string]any{"__classname__": "datetime.datetime", "__version__": 2, "__data__": map[string]any{
			"timestamp": float64(a.At.UnixMicro()) / 1e6, "tz": "UTC", "iso": a.At.UTC().Format("2006-01-02T15:04:05.000000-07:00"),
		}},
	})
	if err != nil {
		return json.RawMessage("null")
	}
	return out
}

// overdue ends a question whose deadline has passed: with its defaults, or else with an error in the task.
func (s *Scheduler) overdue(b *batch, w *wait) {
	if f := w.input.Form; len(f.Defaults) > 0 {
		s.answer(b, w, run.Answer{At: b.now, Options: f.Defaults})
		return
	}
	s.fire(b, w, json.RawMessage(`{"error":"The timeout has passed, and the response has not yet been received.","error_type":"timeout"}`))
}

// formOf reads what an attempt asks; false when that cannot be answered.
func formOf(r executor.Result) (f run.Form, ok bool) {
	if r.Defer == nil || json.Unmarshal(r.Defer.Input, &f) != nil {
		return f, false
	}
	return f, len(f.Options) > 0
}

// ask enters the question of an instance that has just begun to await input.
func (s *Scheduler) ask(b *batch, lr *liveRun, k run.Key, r executor.Result) {
	ti, ok := lr.run.Instance(k)
	if !ok || ti.State != run.AwaitingInput || ti.AttemptID != r.AttemptID {
		return
	}
	form, _ := formOf(r)
	in := &run.Input{Key: k, ID: r.AttemptID, TryNumber: ti.TryNumber, Form: form, CreatedAt: b.now}
	if t := r.Defer.TriggerTime; t != nil {
		at := b.now.Add(time.Duration(*t * float64(time.Second)))
		in.TimeoutAt = &at
	}
	w := run.Wait{Key: k, ID: in.ID, CreatedAt: b.now, TimeoutAt: in.TimeoutAt}
	b.waits = append(b.waits, waitOp{key: k, put: &w, asked: in})
	s.enterWait(s.st, lr, &wait{Wait: w, input: in})
}

// asked says in words what an instance waits for.
func asked(in *run.Input) string {
	text := fmt.Sprintf("waiting for a person to answer %q (%s)", in.Form.Subject, quoted(in.Form.Options))
	if in.TimeoutAt != nil {
		text += ", at most until " + in.TimeoutAt.Format(time.RFC3339)
	}
	return text
}

// loadInputs gives waits their questions.
func (s *Scheduler) loadInputs(ctx context.Context, st *state) error {
	open, err := s.store.OpenInputs(ctx)
	if err != nil {
		return fmt.Errorf("read open questions: %w", err)
	}
	for i := range open {
		if w := st.waits.byKey[open[i].Key]; w != nil && w.ID == open[i].ID {
			w.input = &open[i]
		}
	}
	return nil
}
