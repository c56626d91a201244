package trigger

import (
	"encoding/json"
	"maps"
	"slices"
)

// Seen is what was found of the runs a trigger waits for.
type Seen struct {
	// States by run id, of the runs that exist; nil where tasks are waited for.
	States map[string]string
	// Tasks: the state of each instance of the tasks, by run; for GroupID of all tasks of the group.
	Tasks map[string][]string
	// TaskCount is how many tasks were looked for in each run: len(TaskIDs), or the number in the group.
	TaskCount int
}

// wanted is how many runs there must be.
func (r *Runs) wanted() int {
	if len(r.RunIDs) > 0 {
		return len(r.RunIDs)
	}
	return len(r.Dates)
}

// OfTasks tells whether tasks are waited for, not whole runs.
func (r *Runs) OfTasks() bool { return len(r.TaskIDs) > 0 || r.GroupID != "" }

// Fire says what the trigger fires for what was seen; false while it goes on waiting.
func (r *Runs) Fire(s Seen) (payload json.RawMessage, fired bool) {
	if r.report {
		if r.matching(s, r.Allowed) < r.wanted() {
			return nil, false
		}
		return r.reportOf(s), true
	}
	switch {
	case len(r.Failed) > 0 && r.any(s, r.Failed):
		return status("failed"), true
	case len(r.Skipped) > 0 && r.any(s, r.Skipped):
		return status("skipped"), true
	case r.matching(s, r.Allowed) >= r.wanted():
		return status("success"), true
	}
	return nil, false
}

func status(word string) json.RawMessage { return json.RawMessage(`{"status":"` + word + `"}`) }

// any tells whether one of the runs, or of their tasks, has one of the states.
func (r *Runs) any(s Seen, states []string) bool {
	if !r.OfTasks() {
		return r.matching(s, states) > 0
	}
	for _, found := range s.Tasks {
		if slices.ContainsFunc(found, func(one string) bool { return slices.Contains(states, one) }) {
			return true
		}
	}
	return false
}

// matching counts the runs that have one of the states; where tasks are waited for, the runs all of whose tasks have.
func (r *Runs) matching(s Seen, states []string) int {
	n := 0
	for _, state := range s.States {
		if slices.Contains(states, state) {
			n++
		}
	}
	for _, found := range s.Tasks {
		if len(found) >= max(1, s.TaskCount) && !slices.ContainsFunc(found, func(one string) bool { return !slices.Contains(states, one) }) {
			n++
		}
	}
	return n
}

// reportOf is DagStateTrigger's payload: a pair of the class and its arguments, with the state of each run.
func (r *Runs) reportOf(s Seen) json.RawMessage {
	data := maps.Clone(r.kwargs)
	for id, state := range s.States {
		data[id] = marshal(state)
	}
	return marshal(map[string]any{"__classname__": "builtins.tuple", "__version__": 1, "__data__": []any{r.classpath, data}})
}

// WithEvent returns the arguments a deferred task is resumed with: those it gave, and the event.
func WithEvent(kwargs, payload json.RawMessage) json.RawMessage {
	var args map[string]json.RawMessage
	if json.Unmarshal(kwargs, &args) != nil || args == nil {
		args = map[string]json.RawMessage{}
	}
	if len(payload) == 0 {
		payload = json.RawMessage("null")
	}
	args["event"] = payload
	return marshal(args)
}

// The method and the arguments that make a resumed task fail, as in Airflow.
const (
	FailMethod = "__fail__"
	TimedOut   = "Trigger timeout"
)

// Failure returns the arguments of FailMethod: the error in words, and the traceback to be logged.
func Failure(text, traceback string) json.RawMessage {
	args := map[string]string{"error": text}
	if traceback != "" {
		args["traceback"] = traceback
	}
	return marshal(args)
}

// marshal encodes what always can be encoded.
func marshal(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		panic("trigger: " + err.Error())
	}
	return b
}
