package scheduler

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"ostro.dev/ostro/internal/core/plan"
	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/core/spelling"
	"ostro.dev/ostro/internal/core/timetable"
	"ostro.dev/ostro/internal/store"
)

// runIDPattern is what a run id may look like, as Airflow's allowed_run_id_pattern: it is part of paths and URLs.
var runIDPattern = regexp.MustCompile(`^[A-Za-z0-9_.~:+-]+$`)

// Trigger creates a DAG run. ErrNotFound when there is no such DAG, ErrConflict when the run id or the logical date is
// taken, ErrInvalid when the request makes no sense.
func (s *Scheduler) Trigger(ctx context.Context, actor string, r TriggerRequest) (run.DAGRun, error) {
	if err := s.inferInterval(ctx, &r); err != nil {
		return run.DAGRun{}, err
	}
	var created run.DAGRun
	err := s.call(ctx, message{actor: actor, fold: func(b *batch) error {
		d, err := s.dagByID(r.DAGID)
		if err != nil {
			return err
		}
		row, err := newRun(d, r, actor, b.now)
		if err != nil {
			return err
		}
		if r.Key != "" {
			before, err := s.triggeredBefore(b, actor, row, r.Key)
			if err != nil {
				return err
			}
			if before != nil {
				created = before.run.Row()
				return nil
			}
		}
		err = s.createRun(b, d, row)
		switch {
		case errors.Is(err, ErrConflict) && r.Reset:
			if created, err = s.resetRun(b, row); err != nil {
				return err
			}
		case err != nil:
			return err
		default:
			created = s.st.runs[runKey(row)].run.Row()
		}
		if r.Key != "" {
			b.events = append(b.events, triggered(actor, created, r.Key))
		}
		return nil
	}})
	return answered(&created, err)
}

// eventTriggered says which request brought a DAG run about, or reset it. It stands in the commit that did.
const eventTriggered = "run.triggered"

func triggered(actor string, r run.DAGRun, key string) store.Event {
	detail, _ := json.Marshal(map[string]string{"request": key}) // strings always have a JSON form
	return store.Event{Kind: eventTriggered, Actor: actor, DAGID: r.DAGID, RunID: r.RunID, MapIndex: -1, Detail: detail}
}

// triggeredBefore returns the DAG run of a request that has been obeyed already, nil when it has not: stored, or in the
// batch that is being made.
func (s *Scheduler) triggeredBefore(b *batch, actor string, r run.DAGRun, key string) (*liveRun, error) {
	want := triggered(actor, r, key)
	stored, _, err := s.store.EventLog(b.ctx, store.EventFilter{DAGID: r.DAGID, RunID: r.RunID, Actor: actor, Kinds: []string{eventTriggered}})
	if err != nil {
		return nil, fmt.Errorf("look for an earlier request %s: %w", key, err)
	}
	if !slices.ContainsFunc(append(stored, b.events...), func(e store.Event) bool {
		return e.Kind == want.Kind && e.Actor == actor && e.DAGID == r.DAGID && e.RunID == r.RunID && string(e.Detail) == string(want.Detail)
	}) {
		return nil, nil
	}
	lr, err := s.find(b.ctx, runKey(r))
	if errors.Is(err, store.ErrNotFound) { // deleted since
		return nil, nil
	}
	return lr, err
}

// resetRun clears an existing run instead of creating it. Its configuration stays what it was, as in Airflow.
func (s *Scheduler) resetRun(b *batch, r run.DAGRun) (run.DAGRun, error) {
	lr, err := s.find(b.ctx, runKey(r))
	if err != nil {
		return run.DAGRun{}, notFound(err)
	}
	s.enter(lr)
	var keys []run.Key
	for _, ti := range lr.run.Instances() {
		keys = append(keys, ti.Key)
	}
	b.decide(lr, plan.Cleared{Keys: keys, Reason: "triggered again"})
	return lr.run.Row(), nil
}

// enter takes a run that was read for a command into memory; advance and finish take it out again if it stays finished.
func (s *Scheduler) enter(lr *liveRun) {
	if s.st.runs[lr.key] == nil {
		s.st.keep(lr)
	}
}

func (s *Scheduler) dagByID(id string) (*dagState, error) {
	if d := s.st.dags[id]; d != nil && !d.info.Removed {
		return d, nil
	}
	return nil, s.unknown(id)
}

// unknownDAG is the error of a command for a DAG that the scheduler does not know.
type unknownDAG struct{ id, hint string }

func (e *unknownDAG) Error() string {
	return fmt.Sprintf("there is no DAG %q%s: %v", e.id, e.hint, ErrNotFound)
}

func (e *unknownDAG) Unwrap() error { return ErrNotFound }

func (s *Scheduler) unknown(id string) error {
	var names []string
	for n, other := range s.st.dags {
		if !other.info.Removed {
			names = append(names, n)
		}
	}
	hint := ""
	if near := spelling.Nearest(id, names); near != "" {
		hint = fmt.Sprintf("; did you mean %q?", near)
	}
	return &unknownDAG{id: id, hint: hint}
}

// newRun fills in what a request leaves open, as Airflow does.
func newRun(d *dagState, r TriggerRequest, actor string, now time.Time) (run.DAGRun, error) {
	row := run.DAGRun{
		DAGID: r.DAGID, RunID: r.RunID, Type: r.Type, Note: r.Note, TriggeredBy: actor, RunAfter: now,
		LogicalDate: microp(r.LogicalDate), DataIntervalStart: microp(r.DataIntervalStart), DataIntervalEnd: microp(r.DataIntervalEnd),
	}
	if row.Type == "" {
		row.Type = run.TypeManual
	}
	conf, err := confObject(r.Conf)
	if err != nil {
		return row, err
	}
	row.Conf = conf
	if (row.DataIntervalStart == nil) != (row.DataIntervalEnd == nil) {
		return row, fmt.Errorf("data_interval_start and data_interval_end must be given together: %w", ErrInvalid)
	}
	if allowed := d.info.DAG.AllowedRunTypes; len(allowed) > 0 && !slices.Contains(allowed, string(row.Type)) {
		return row, fmt.Errorf("DAG %s allows runs of type %s only: %w", r.DAGID, strings.Join(allowed, ", "), ErrInvalid)
	}
	if row.LogicalDate != nil && row.DataIntervalStart == nil {
		i := timetable.Interval{Start: *row.LogicalDate, End: *row.LogicalDate}
		if d.tt != nil {
			i = d.tt.Manual(*row.LogicalDate)
		}
		row.DataIntervalStart, row.DataIntervalEnd = utc(i.Start), utc(i.End)
	}
	switch {
	case r.RunAfter != nil:
		row.RunAfter = micro(*r.RunAfter)
	case row.DataIntervalEnd != nil:
		row.RunAfter = *row.DataIntervalEnd
	}
	if row.RunID == "" {
		row.RunID = runID(row)
	}
	if !runIDPattern.MatchString(row.RunID) || strings.Trim(row.RunID, ".") == "" || len(row.RunID) > 250 {
		return row, fmt.Errorf("run id %q: only letters, digits and _.~:+- are allowed, at most 250 of them: %w", row.RunID, ErrInvalid)
	}
	if row.Type == run.TypeManual && strings.HasPrefix(row.RunID, string(run.TypeScheduled)+"__") {
		return row, fmt.Errorf("run id %q: scheduled__ is kept for scheduled runs: %w", row.RunID, ErrInvalid)
	}
	return row, nil
}

// runID makes an id as Airflow 3 does: from the date the run is due, with a random end when it has no logical date.
func runID(r run.DAGRun) string {
	id := timetable.RunID(string(r.Type), r.RunAfter)
	if r.LogicalDate == nil {
		id += "_" + strings.ToLower(rand.Text()[:8])
	}
	return id
}

func confObject(raw json.RawMessage) (json.RawMessage, error) {
	text := strings.TrimSpace(string(raw))
	if text == "" || text == "null" {
		return json.RawMessage("{}"), nil
	}
	var obj map[string]json.RawMessage
	if err := json.Unmarshal(raw, &obj); err != nil {
		return nil, fmt.Errorf("conf must be a JSON object: %w (%w)", ErrInvalid, err)
	}
	return json.RawMessage(text), nil
}

func microp(t *time.Time) *time.Time {
	if t == nil {
		return nil
	}
	m := micro(*t)
	return &m
}
