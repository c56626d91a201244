// Package trigger knows the triggers of Airflow's standard provider that the control plane waits for by itself: a moment,
// a file, the state of other DAG runs and tasks. It reads their arguments and says what they fire. Every other trigger is
// Python's business.
//
// The arguments and the payloads are in the encoding of XComs: plain JSON, and {"__classname__", "__version__",
// "__data__"} for what JSON lacks. Arguments of a shape this package does not know are left to Python as well. The package
// must not know how anything is waited for.
package trigger

import (
	"encoding/json"
	"slices"
	"strings"
	"time"
)

// A Spec is a trigger that needs no Python: Moment, File or Runs.
type Spec interface{ spec() }

// Moment fires at a time.
type Moment struct {
	At      time.Time
	Payload json.RawMessage // the moment as it was given
	Ends    bool            // end_from_trigger: the task is done then, no process resumes it
}

// File fires when a file is there.
type File struct {
	Pattern   string
	Recursive bool
	Every     time.Duration
}

// Runs fires by the states of runs of a DAG, or of tasks in them.
type Runs struct {
	DAGID string
	// RunIDs or Dates say which runs; with RunIDs the dates do not count.
	RunIDs []string
	Dates  []time.Time
	// TaskIDs or GroupID: the tasks of those runs instead of the runs themselves.
	TaskIDs []string
	GroupID string
	// Fired by any in Failed, else any in Skipped, else all in Allowed.
	Allowed, Failed, Skipped []string

	classpath string
	kwargs    map[string]json.RawMessage
	report    bool // DagStateTrigger: the payload says which run has which state
}

func (Moment) spec() {}
func (File) spec()   {}
func (*Runs) spec()  {}

// The modules the triggers live in: Airflow 3's provider, and where Airflow 2 had them.
const (
	standard = "airflow.providers.standard.triggers."
	former   = "airflow.triggers."
)

// Parse reads a trigger; false when it is one for Python.
func Parse(classpath string, kwargs json.RawMessage) (Spec, bool) {
	name, ours := strings.CutPrefix(classpath, standard)
	if !ours {
		if name, ours = strings.CutPrefix(classpath, former); !ours {
			return nil, false
		}
	}
	var args arguments
	if json.Unmarshal(kwargs, &args.given) != nil || args.given == nil {
		return nil, false
	}
	switch name {
	case "temporal.DateTimeTrigger":
		return args.moment()
	case "file.FileTrigger":
		return args.file()
	case "external_task.DagStateTrigger":
		return args.dagState(classpath)
	case "external_task.WorkflowTrigger":
		return args.workflow(classpath)
	}
	return nil, false
}

// arguments reads keyword arguments and remembers whether one was not of the expected shape.
type arguments struct {
	given map[string]json.RawMessage
	odd   bool
}

func (a *arguments) moment() (Spec, bool) {
	a.known("moment", "end_from_trigger")
	m := Moment{Payload: a.given["moment"], Ends: a.truth("end_from_trigger")}
	at, ok := Time(m.Payload)
	m.At = at
	return m, ok && !a.odd
}

func (a *arguments) file() (Spec, bool) {
	a.known("filepath", "recursive", "poke_interval")
	f := File{Pattern: a.text("filepath"), Recursive: a.truth("recursive"), Every: a.seconds("poke_interval", 5)}
	return f, f.Pattern != "" && !a.odd
}

func (a *arguments) dagState(classpath string) (Spec, bool) {
	a.known("dag_id", "states", "run_ids", "execution_dates", "poll_interval")
	r := &Runs{
		DAGID: a.text("dag_id"), Allowed: a.texts("states"), RunIDs: a.texts("run_ids"), Dates: a.times("execution_dates"),
		classpath: classpath, kwargs: a.given, report: true,
	}
	return r, r.DAGID != "" && len(r.RunIDs)+len(r.Dates) > 0 && !a.odd
}

func (a *arguments) workflow(classpath string) (Spec, bool) {
	a.known("external_dag_id", "run_ids", "execution_dates", "logical_dates", "external_task_ids", "external_task_group_id",
		"failed_states", "skipped_states", "allowed_states", "poke_interval", "soft_fail")
	r := &Runs{
		DAGID: a.text("external_dag_id"), RunIDs: a.texts("run_ids"), Dates: slices.Concat(a.times("logical_dates"), a.times("execution_dates")),
		TaskIDs: a.texts("external_task_ids"), GroupID: a.text("external_task_group_id"),
		Allowed: a.texts("allowed_states"), Failed: a.texts("failed_states"), Skipped: a.texts("skipped_states"),
		classpath: classpath, kwargs: a.given,
	}
	return r, r.DAGID != "" && len(r.RunIDs)+len(r.Dates) > 0 && !a.odd
}

func (a *arguments) known(names ...string) {
	for name := range a.given {
		a.odd = a.odd || !slices.Contains(names, name)
	}
}

func (a *arguments) read(name string, into any) {
	if raw := a.given[name]; len(raw) > 0 && json.Unmarshal(raw, into) != nil {
		a.odd = true
	}
}

func (a *arguments) text(name string) (s string) { a.read(name, &s); return s }

func (a *arguments) truth(name string) (b bool) { a.read(name, &b); return b }

func (a *arguments) seconds(name string, otherwise float64) time.Duration {
	s := otherwise
	a.read(name, &s)
	return time.Duration(max(s, 0.05) * float64(time.Second))
}

// texts reads a list of strings; enumerations stand for their values, tuples and sets for lists.
func (a *arguments) texts(name string) []string {
	var out []string
	for _, raw := range a.list(name) {
		var s string
		var member struct {
			Data struct{ Enum string } `json:"__data__"`
		}
		switch {
		case json.Unmarshal(raw, &s) == nil:
		case json.Unmarshal(raw, &member) == nil && member.Data.Enum != "":
			s = member.Data.Enum
		default:
			a.odd = true
		}
		out = append(out, s)
	}
	return out
}

func (a *arguments) times(name string) []time.Time {
	var out []time.Time
	for _, raw := range a.list(name) {
		if string(raw) == "null" { // the logical date of a run that has none
			continue
		}
		at, ok := Time(raw)
		a.odd = a.odd || !ok
		out = append(out, at)
	}
	return out
}

func (a *arguments) list(name string) []json.RawMessage {
	raw := a.given[name]
	if len(raw) == 0 {
		return nil
	}
	var items []json.RawMessage
	if json.Unmarshal(raw, &items) == nil {
		return items
	}
	var wrapped struct {
		Data []json.RawMessage `json:"__data__"`
	}
	if json.Unmarshal(raw, &wrapped) != nil {
		a.odd = true
	}
	return wrapped.Data
}

// Time reads a date as XComs keep it: encoded, or in ISO format with an offset.
func Time(raw json.RawMessage) (time.Time, bool) {
	var iso string
	if json.Unmarshal(raw, &iso) != nil {
		var wrapped struct {
			Name string `json:"__classname__"`
			Data struct {
				ISO string `json:"iso"`
			} `json:"__data__"`
		}
		if json.Unmarshal(raw, &wrapped) != nil || !strings.Contains(strings.ToLower(wrapped.Name), "datetime") {
			return time.Time{}, false
		}
		iso = wrapped.Data.ISO
	}
	at, err := time.Parse(time.RFC3339Nano, iso)
	return at.UTC(), err == nil
}
