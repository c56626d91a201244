package trigger

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

const at = `{"__classname__":"pendulum.datetime.DateTime","__version__":2,"__data__":{"timestamp":1,"tz":"Europe/Berlin","iso":"2024-01-01T02:00:00.5+02:00"}}`

var midnight = time.Date(2024, 1, 1, 0, 0, 0, 500_000_000, time.UTC)

func TestStandardTriggersAreRead(t *testing.T) {
	for _, c := range []struct {
		name, classpath, kwargs string
		want                    Spec
	}{
		{"a moment", standard + "temporal.DateTimeTrigger", `{"moment":` + at + `,"end_from_trigger":true}`, Moment{midnight, json.RawMessage(at), true}},
		{"Airflow 2's path", former + "temporal.DateTimeTrigger", `{"moment":"2024-01-01T00:00:00.5Z"}`, Moment{midnight, json.RawMessage(`"2024-01-01T00:00:00.5Z"`), false}},
		{"a file", standard + "file.FileTrigger", `{"filepath":"/a/*","recursive":true,"poke_interval":0.2}`, File{"/a/*", true, 200 * time.Millisecond}},
		{"a file with defaults", standard + "file.FileTrigger", `{"filepath":"/a"}`, File{"/a", false, 5 * time.Second}},
		{"runs by id", standard + "external_task.DagStateTrigger", `{"dag_id":"d","states":["success",{"__classname__":"x","__version__":1,"__data__":{"enum":"failed"}}],"run_ids":["r"],"execution_dates":[null]}`,
			&Runs{DAGID: "d", RunIDs: []string{"r"}, Allowed: []string{"success", "failed"}}},
		{"tasks by date", standard + "external_task.WorkflowTrigger", `{"external_dag_id":"d","logical_dates":[` + at + `],"external_task_ids":{"__classname__":"builtins.tuple","__version__":1,"__data__":["t"]},"allowed_states":["success"],"failed_states":null}`,
			&Runs{DAGID: "d", Dates: []time.Time{midnight}, TaskIDs: []string{"t"}, Allowed: []string{"success"}}},
	} {
		got, ok := Parse(c.classpath, json.RawMessage(c.kwargs))
		if diff := cmp.Diff(c.want, got, cmpopts.IgnoreUnexported(Runs{})); diff != "" || !ok {
			t.Errorf("%s: %v\n%s", c.name, ok, diff)
		}
	}
}

func TestWhatIsNotKnownIsLeftToPython(t *testing.T) {
	for _, c := range [][2]string{
		{"my.DateTimeTrigger", `{"moment":` + at + `}`},
		{standard + "file.FileDeleteTrigger", `{"filepath":"/a"}`},
		{standard + "temporal.DateTimeTrigger", `{"moment":"soon"}`},
		{standard + "temporal.DateTimeTrigger", `{"moment":` + at + `,"more":1}`},
		{standard + "temporal.DateTimeTrigger", `[]`},
		{standard + "temporal.DateTimeTrigger", `null`},
		{standard + "file.FileTrigger", `{"filepath":7}`},
		{standard + "external_task.DagStateTrigger", `{"dag_id":"d","states":["success"]}`},
		{standard + "external_task.DagStateTrigger", `{"dag_id":"d","states":[7],"run_ids":["r"]}`},
	} {
		if got, ok := Parse(c[0], json.RawMessage(c[1])); ok {
			t.Errorf("%s(%s) was read as %+v", c[0], c[1], got)
		}
	}
}

func TestRunsFireByTheStatesSeen(t *testing.T) {
	tasks := &Runs{RunIDs: []string{"r", "s"}, TaskIDs: []string{"a", "b"}, Allowed: []string{"success"}, Failed: []string{"failed"}, Skipped: []string{"skipped"}}
	whole := &Runs{RunIDs: []string{"r", "s"}, Allowed: []string{"success"}, Failed: []string{"failed"}}
	for _, c := range []struct {
		name string
		r    *Runs
		seen Seen
		want string
	}{
		{"no run yet", whole, Seen{States: map[string]string{}}, ""},
		{"one of two", whole, Seen{States: map[string]string{"r": "success"}}, ""},
		{"both", whole, Seen{States: map[string]string{"r": "success", "s": "success"}}, `{"status":"success"}`},
		{"one has failed", whole, Seen{States: map[string]string{"r": "failed", "s": "running"}}, `{"status":"failed"}`},
		{"tasks of one run", tasks, Seen{Tasks: map[string][]string{"r": {"success", "success"}}, TaskCount: 2}, ""},
		{"a task is missing", tasks, Seen{Tasks: map[string][]string{"r": {"success"}, "s": {"success", "success"}}, TaskCount: 2}, ""},
		{"all tasks", tasks, Seen{Tasks: map[string][]string{"r": {"success", "success"}, "s": {"success", "success", "success"}}, TaskCount: 2}, `{"status":"success"}`},
		{"a task was skipped", tasks, Seen{Tasks: map[string][]string{"r": {"skipped", ""}}, TaskCount: 2}, `{"status":"skipped"}`},
	} {
		payload, fired := c.r.Fire(c.seen)
		if string(payload) != c.want || fired != (c.want != "") {
			t.Errorf("%s: %s, %v", c.name, payload, fired)
		}
	}
}

func TestTheEventJoinsTheArguments(t *testing.T) {
	if got := string(WithEvent(json.RawMessage(`{"a":1,"event":0}`), json.RawMessage(`[2]`))); got != `{"a":1,"event":[2]}` {
		t.Error(got)
	}
	if got := string(WithEvent(nil, nil)); got != `{"event":null}` {
		t.Error(got)
	}
}

func TestNamesMatchAsInPython(t *testing.T) {
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{
		{"*.csv", "a.csv", true}, {"*.csv", "a.csv.gz", false}, {"a?c", "abc", true}, {"a?c", "ac", false}, {"*", ".hidden", false},
		{".*", ".hidden", true}, {"[a-c]x", "bx", true}, {"[!a-c]x", "bx", false}, {"[!a-c]x", "dx", true}, {"[]]", "]", true},
		{"[ab", "[ab", true}, {"a*b*c", "a-b-b-c", true}, {"a*b*c", "a-c-b", false}, {"ä*", "äx", true}, {"**", "x", true}, {"", "", true},
	} {
		if got := Match(c.pattern, c.name); got != c.want {
			t.Errorf("%q matches %q: %v", c.pattern, c.name, got)
		}
	}
}
