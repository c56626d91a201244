package dag

import (
	"encoding/json"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func ids(x *Index, positions []int) string {
	var names []string
	for _, p := range positions {
		names = append(names, x.At(p).ID)
	}
	return strings.Join(names, " ")
}

func TestAnIndexKnowsTheGraph(t *testing.T) {
	x := NewIndex(graph("d: b c\nb: a\nc: a a\na:\nalone:"))
	at := func(id string) int { p, _ := x.Pos(id); return p }
	for _, c := range []struct{ what, got, want string }{
		{"topological order", ids(x, x.Topological()), "a alone b c d"},
		{"upstream of d", ids(x, x.Upstream(at("d"))), "b c"},
		{"upstream of c", ids(x, x.Upstream(at("c"))), "a"},
		{"downstream of a", ids(x, x.Downstream(at("a"))), "b c"},
		{"roots", ids(x, x.Roots()), "a alone"},
		{"leaves", ids(x, x.Leaves()), "d alone"},
		{"ancestors of d", ids(x, x.Ancestors(at("d"))), "a b c"},
		{"descendants of b", ids(x, x.Descendants(at("b"))), "d"},
		{"b alone", strings.Join(x.Relatives([]string{"b", "nobody"}, false, false), " "), "b"},
		{"b and before", strings.Join(x.Relatives([]string{"b"}, true, false), " "), "a b"},
		{"b and around", strings.Join(x.Relatives([]string{"b"}, true, true), " "), "a b d"},
	} {
		if c.got != c.want {
			t.Errorf("%s: %q, want %q", c.what, c.got, c.want)
		}
	}
	if x.Task("nobody") != nil || x.Task("b").ID != "b" || x.Len() != 5 {
		t.Error("tasks are not found by id")
	}
}

func TestGroupsHoldTheTasksOfInnerGroups(t *testing.T) {
	x := NewIndex(graph("s:\na: s\nb: s\nc: s", on("a", func(t *Task) { t.Group = "g" }), on("b", func(t *Task) { t.Group = "in" }), func(d *DAG) {
		d.Groups = []TaskGroup{{ID: "g", Mapped: over("s")}, {ID: "in", Parent: "g"}}
	}))
	if got := ids(x, x.GroupMembers("g")); got != "a b" {
		t.Errorf("members of g: %s", got)
	}
	if x.MapGroup(2) != x.Group("g") || !x.Paired(1, 2) || x.Paired(1, 3) || x.Mapping(2) != x.Group("g").Mapped || x.Mapping(3) != nil {
		t.Error("the mapped group is not seen from inside")
	}
	if got := ids(x, x.Mappers(0)); got != "a b" || ids(x, x.MapSources(2)) != "s" {
		t.Errorf("mapped over s: %s", got)
	}
}

func TestPriorityWeightsFollowTheirRule(t *testing.T) {
	weights := func(rule string) map[string]int {
		d := graph("a:\nb: a\nc: a\nd: b c\ne: d\nbig:")
		for i := range d.Tasks {
			d.Tasks[i].WeightRule = rule
		}
		d.Task("c").PriorityWeight = 5
		d.Task("big").PriorityWeight = 1 << 40
		x := NewIndex(d)
		got := map[string]int{}
		for p := range d.Tasks {
			got[x.At(p).ID] = x.Weight(p)
		}
		return got
	}
	const most = 1<<31 - 1
	for rule, want := range map[string]map[string]int{
		"":             {"a": 9, "b": 3, "c": 7, "d": 2, "e": 1, "big": most},
		WeightUpstream: {"a": 1, "b": 2, "c": 6, "d": 8, "e": 9, "big": most},
		WeightAbsolute: {"a": 1, "b": 1, "c": 5, "d": 1, "e": 1, "big": most},
	} {
		if d := cmp.Diff(want, weights(rule)); d != "" {
			t.Errorf("%q (-want +got)\n%s", rule, d)
		}
	}
}

func TestWeightsCountEveryDescendantOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := &DAG{ID: "d"}
		for i := range rapid.IntRange(1, 12).Draw(t, "tasks") {
			task := Task{ID: string(rune('a' + i)), PriorityWeight: rapid.IntRange(1, 9).Draw(t, "weight")}
			for j := range i {
				if rapid.Bool().Draw(t, "edge") {
					task.Upstream = append(task.Upstream, d.Tasks[j].ID)
				}
			}
			d.Tasks = append(d.Tasks, task)
		}
		x := NewIndex(d)
		for p := range d.Tasks {
			want := x.At(p).PriorityWeight
			for _, after := range x.Descendants(p) {
				want += x.At(after).PriorityWeight
			}
			if got := x.Weight(p); got != want {
				t.Fatalf("%s weighs %d, want %d", x.At(p).ID, got, want)
			}
		}
	})
}

func TestSetupsReachAsFarAsTheirTeardowns(t *testing.T) {
	x := NewIndex(graph("up:\na: up\nb: a\ndown: b up\nafter: down\nopen:\nc: open\nfar: c", on("up", setup), on("open", setup), on("down", teardown)))
	for id, want := range map[string]string{"up": "", "a": "", "b": "up", "down": "", "after": "", "c": "", "far": "open"} {
		p, _ := x.Pos(id)
		if got := ids(x, x.Setups(p)); got != want {
			t.Errorf("%s needs the setups %q, want %q", id, got, want)
		}
	}
	up, _ := x.Pos("up")
	if got := ids(x, x.Scope(up)); got != "b" {
		t.Errorf("scope of up: %s", got)
	}
	if got := strings.Join(x.WithSetups([]string{"b", "nobody"}), " "); got != "up b down" {
		t.Errorf("b with its setups: %s", got)
	}
	if got := ids(x, x.StateLeaves()); got != "b after far" {
		t.Errorf("leaves that decide: %s", got)
	}
	only := NewIndex(graph("down:", on("down", teardown)))
	if got := ids(only, only.StateLeaves()); got != "down" {
		t.Errorf("leaves of nothing but teardowns: %s", got)
	}
}

func TestTheHashKnowsWhatMeansTheSame(t *testing.T) {
	base := func() *DAG {
		d := graph("a:\nb: a\nc: a b")
		d.Tags = []string{"x", "y"}
		d.EdgeLabels = []EdgeLabel{{"a", "b", "yes"}, {"a", "c", "no"}}
		d.Task("b").Fields = map[string]json.RawMessage{"env": json.RawMessage(`{"A": 1.50, "B": [1, 2]}`)}
		d.Task("c").Inlets = []AssetRef{{Name: "one"}, {Name: "two"}}
		d.Task("c").Mapped = over("a", "b")
		return d
	}
	want := Hash(base())
	for what, same := range map[string]func(*DAG){
		"the order of tasks":      func(d *DAG) { rand.Shuffle(3, func(i, j int) { d.Tasks[i], d.Tasks[j] = d.Tasks[j], d.Tasks[i] }) },
		"the order of upstream":   func(d *DAG) { d.Task("c").Upstream = []string{"b", "a", "b"} },
		"the order of tags":       func(d *DAG) { d.Tags = []string{"y", "x"} },
		"the order of labels":     func(d *DAG) { d.EdgeLabels[0], d.EdgeLabels[1] = d.EdgeLabels[1], d.EdgeLabels[0] },
		"the order of inlets":     func(d *DAG) { d.Task("c").Inlets = []AssetRef{{Name: "two"}, {Name: "one"}} },
		"the order of keys":       func(d *DAG) { d.Task("b").Fields["env"] = json.RawMessage(`{"B":[1,2],"A":1.50}`) },
		"a way through the store": func(d *DAG) { *d = *d.Clone() },
	} {
		d := base()
		same(d)
		if Hash(d) != want {
			t.Errorf("%s changes the hash:\n%s\n%s", what, Canonical(base()), Canonical(d))
		}
	}
	for what, change := range map[string]func(*DAG){
		"the order of mapped arguments": func(d *DAG) { m := d.Task("c").Mapped; m.Args[0], m.Args[1] = m.Args[1], m.Args[0] },
		"the order in a list":           func(d *DAG) { d.Task("b").Fields["env"] = json.RawMessage(`{"A":1.50,"B":[2,1]}`) },
		"an edge":                       func(d *DAG) { d.Task("c").Upstream = []string{"b"} },
		"the schedule":                  func(d *DAG) { d.Schedule = Schedule{Kind: ScheduleOnce} },
	} {
		d := base()
		change(d)
		if Hash(d) == want {
			t.Errorf("%s does not change the hash", what)
		}
	}
	d := base()
	Hash(d)
	if diff := cmp.Diff(base(), d); diff != "" {
		t.Errorf("hashing changed the DAG\n%s", diff)
	}
}

func TestInstantTasksNeedNoProcess(t *testing.T) {
	for _, c := range []struct {
		task Task
		want bool
	}{
		{Task{Kind: KindEmpty}, true},
		{Task{Kind: KindEmpty, Callbacks: Callbacks{OnFailure: true}}, true},
		{Task{Kind: KindEmpty, Callbacks: Callbacks{OnSuccess: true}}, false},
		{Task{Kind: KindEmpty, Callbacks: Callbacks{OnExecute: true}}, false},
		{Task{Kind: KindEmpty, Outlets: []AssetRef{{Name: "a"}}}, false},
		{Task{}, false},
	} {
		if got := c.task.Instant(); got != c.want {
			t.Errorf("%+v: %v", c.task, got)
		}
	}
}

func TestSecondsKeepMicroseconds(t *testing.T) {
	for text, want := range map[string]string{"1.5": "1.5s", "300": "5m0s", "0.000001": "1µs"} {
		var s Seconds
		if err := json.Unmarshal([]byte(text), &s); err != nil || s.Duration().String() != want {
			t.Errorf("%s: %s, %v", text, s.Duration(), err)
		}
		if b, err := json.Marshal(s); err != nil || string(b) != text {
			t.Errorf("%s comes back as %s, %v", text, b, err)
		}
	}
	var s Seconds
	if err := json.Unmarshal([]byte(`"soon"`), &s); err == nil {
		t.Error("words are no seconds")
	}
}
