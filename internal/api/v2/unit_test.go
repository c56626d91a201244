package v2

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ostro.dev/ostro/internal/core/dag"
	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/scheduler"
)

func TestOfACrashedPythonTheFirstLinesAreShownWhereItsAuthorsAre(t *testing.T) {
	root, k := t.TempDir(), run.Key{DAGID: "d", RunID: "r", TaskID: "t", MapIndex: -1}
	path := filepath.Join(root, filepath.FromSlash(scheduler.LogPath(k, 1)))
	var text strings.Builder
	for _, line := range []string{"begun", "Fatal Python error: Segmentation fault", "", "Current thread 0x1 (most recent call first):",
		"  File \"ctypes.py\", line 5 in string_at", "  File \"dag.py\", line 7 in crash", "  File \"runner.py\", line 1 in run",
		"  File \"task.py\", line 2 in run", "  File \"host.py\", line 3 in main"} {
		fmt.Fprintf(&text, "{\"t\":\"2024-01-31T02:00:01Z\",\"s\":\"stderr\",\"l\":\"error\",\"m\":%q}\n", line)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	got, err := tailLog(root, k, 1)
	if err != nil || len(got) != liveTail || got[0] != "Fatal Python error: Segmentation fault" || !strings.Contains(got[3], "in crash") {
		t.Errorf("%q, %v", got, err)
	}
}

func TestTextOfValuesIsPythons(t *testing.T) {
	for in, want := range map[string]string{`"plain"`: "plain", `null`: "None", `true`: "True", `1.50`: "1.50", `[]`: "[]", `{"b":[1,"x"],"a":null}`: `{'b': [1, 'x'], 'a': None}`,
		`["it's"]`: `["it's"]`, `["it's \"x\""]`: `['it\'s "x"']`, `["a\nb\u0001\\é"]`: `['a\nb\x01\\é']`} {
		if got, err := pythonText(json.RawMessage(in)); err != nil || got != want {
			t.Errorf("%s: %s, %v; want %s", in, got, err, want)
		}
	}
}

func TestPatternsAreSQLs(t *testing.T) {
	for _, c := range []struct {
		pattern, s string
		want       bool
	}{{"a%", "ABC", true}, {"%b%", "abc", true}, {"a_c", "abc", true}, {"a_c", "ac", false}, {"", "", true}, {"%", "", true}, {"x|a%", "abc", true}, {"%a%b%c%", "xaybzc", true}, {"ab", "abc", false}, {"%%%%%%%%%%x", "aaaaaaaaaaaaaaaaaaaaaaaaa", false}} {
		if got := like(c.pattern, c.s); got != c.want {
			t.Errorf("like(%q, %q) = %v", c.pattern, c.s, got)
		}
	}
}

func TestParamsAreCheckedAgainstTheirSchema(t *testing.T) {
	d := &dag.DAG{Params: map[string]dag.Param{
		"need": {Schema: json.RawMessage(`{"type":"string","minLength":2}`)}, "n": {Value: json.RawMessage("1"), Schema: json.RawMessage(`{"type":["integer","null"],"minimum":0}`)},
		"e": {Value: json.RawMessage(`"a"`), Schema: json.RawMessage(`{"enum":["a","b"]}`)}, "l": {Value: json.RawMessage(`[]`), Schema: json.RawMessage(`{"type":"array","items":{"type":"string"}}`)}}}
	for conf, want := range map[string]string{``: "param need: No value passed and Param has no default value", `{"need":"ok"}`: "", `{"need":"x"}`: "param need: 'x' is too short",
		`{"need":"ok","n":-1}`: "param n: -1 is less than the minimum of 0", `{"need":"ok","n":null,"e":"b","other":1}`: "", `{"need":"ok","n":1.5}`: "param n: 1.5 is not of type 'integer' or 'null'",
		`{"need":"ok","e":"c"}`: `param e: "c" is not one of "a", "b"`, `{"need":"ok","l":[1]}`: "param l: 1 is not of type 'string'"} {
		got := ""
		if err := checkParams(d, json.RawMessage(conf)); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%s: %q, want %q", conf, got, want)
		}
	}
}

func TestWeightsFollowTheRules(t *testing.T) {
	d := &dag.DAG{Tasks: []dag.Task{{ID: "a"}, {ID: "b", Upstream: []string{"a"}, PriorityWeight: 5}, {ID: "c", Upstream: []string{"a", "b"}, WeightRule: "upstream"}, {ID: "d", Upstream: []string{"c"}, WeightRule: "absolute", PriorityWeight: 7}}}
	ver := &version{dag: d, index: new(compiled).Index}
	for id, want := range map[string]int{"a": 1 + 5 + 1 + 7, "b": 5 + 1 + 7, "c": 1 + 5 + 1, "d": 7} {
		if got := ver.priority(id); got != want {
			t.Errorf("weight of %s is %d, want %d", id, got, want)
		}
	}
}

func TestDurationsAreWrittenAsPydanticDoes(t *testing.T) {
	for d, want := range map[time.Duration]string{0: "PT0S", time.Hour: "PT1H", 26*time.Hour + 90*time.Second: "P1DT2H1M30S", 1500 * time.Millisecond: "PT1.5S", 24 * time.Hour: "P1D"} {
		if got := isoDuration(d); got != want {
			t.Errorf("%v: %s, want %s", d, got, want)
		}
	}
}

func TestLiteralSegmentsWinOverParameters(t *testing.T) {
	rt := newRouter((&API{}).routes())
	for path, want := range map[string]string{"/dags/d/dagRuns/r/taskInstances/t/tries": ti + "/{task_id}/tries", "/dags/d/dagRuns/r/taskInstances/t/3/tries": ti + "/{task_id}/{map_index}/tries",
		"/dags/d/dagRuns/r/taskInstances/t/logs/1": ti + "/{task_id}/logs/{try_number}", "/variables/a/b%2Fc": "/variables/{variable_key...}", "/assets/aliases": "/assets/aliases"} {
		route, params, _ := rt.find("GET", path)
		if route == nil || route.Path != want {
			t.Errorf("%s goes to %v", path, route)
		}
		if want == "/variables/{variable_key...}" && params["variable_key"] != "a/b/c" {
			t.Errorf("the rest of the path is %q", params["variable_key"])
		}
	}
}

func FuzzPythonText(f *testing.F) {
	f.Add(`{"a":[1,"x",null]}`)
	f.Fuzz(func(t *testing.T, s string) {
		if !json.Valid([]byte(s)) {
			return
		}
		if _, err := pythonText(json.RawMessage(s)); err != nil {
			t.Errorf("%s: %v", s, err)
		}
	})
}
