package plan

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"ostro.dev/ostro/internal/core/dag"
	"ostro.dev/ostro/internal/core/run"
)

var epoch = time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)

// harness drives one run by hand: it decides, checks what every decision must keep, and remembers what it said.
type harness struct {
	t   testing.TB
	x   *dag.Index
	r   *Run
	now time.Time

	ids       int
	attempts  int
	rows      map[string]run.TaskInstance // by id of the row, as a store would hold them
	row       run.DAGRun
	callbacks []string
	kills     []string
	last      Decision
}

// build makes a DAG from lines "task: upstream upstream"; edit changes tasks by id.
func build(t testing.TB, lines string, edit ...func(*dag.DAG)) *dag.Index {
	t.Helper()
	d := &dag.DAG{ID: "d", File: "d.py"}
	for line := range strings.Lines(lines) {
		id, up, _ := strings.Cut(strings.TrimSpace(line), ":")
		if id != "" {
			d.Tasks = append(d.Tasks, dag.Task{ID: id, Operator: "PythonOperator", Upstream: strings.Fields(up)})
		}
	}
	for _, e := range edit {
		e(d)
	}
	if err := dag.Validate(d); err != nil {
		t.Fatal(err)
	}
	return dag.NewIndex(d)
}

// task changes the tasks named by a space-separated list.
func task(ids string, change func(*dag.Task)) func(*dag.DAG) {
	return func(d *dag.DAG) {
		for _, id := range strings.Fields(ids) {
			change(d.Task(id))
		}
	}
}

func rule(ids string, r dag.TriggerRule) func(*dag.DAG) {
	return task(ids, func(t *dag.Task) { t.TriggerRule = r })
}

func newHarness(t testing.TB, x *dag.Index, o ...func(*Options)) *harness {
	h := &harness{t: t, x: x, now: epoch, rows: map[string]run.TaskInstance{}}
	opt := Options{NewID: h.newID, Limits: Limits{
		Executors: map[string]int{"local": 1 << 30},
		Pools:     map[string]Pool{DefaultPool: {Slots: -1}},
	}}
	for _, f := range o {
		f(&opt)
	}
	h.row = run.DAGRun{DAGID: x.DAG.ID, RunID: "r", State: run.RunQueued, LogicalDate: &epoch, RunAfter: epoch, QueuedAt: epoch, Version: 1}
	tis := Instances(x, h.row, h.newID)
	for i := range tis {
		tis[i].Version = 1
		h.rows[rowKey(tis[i].Key)] = tis[i]
	}
	h.r = NewRun(x, h.row, tis, opt)
	return h
}

func (h *harness) newID() string { h.ids++; return fmt.Sprintf("id%d", h.ids) }

func rowKey(k run.Key) string { return fmt.Sprintf("%s[%d]", k.TaskID, k.MapIndex) }

// start begins the run.
func start(t testing.TB, x *dag.Index, o ...func(*Options)) *harness {
	h := newHarness(t, x, o...)
	h.decide(RunStarted{})
	return h
}

// decide folds an event, applies the changes to the rows as a store would, and checks guards and transitions.
func (h *harness) decide(ev Event) Decision {
	h.t.Helper()
	d := Decide(h.r, ev, h.now)
	h.apply(d)
	return d
}

func (h *harness) apply(d Decision) {
	h.t.Helper()
	for _, c := range d.Tasks {
		stored, exists := h.rows[rowKey(c.Before.Key)]
		switch {
		case exists != (c.Before.Version > 0):
			h.t.Fatalf("%s: version %d, row exists: %v", rowKey(c.Before.Key), c.Before.Version, exists)
		case exists && stored.Version != c.Before.Version:
			h.t.Fatalf("%s: guard: stored version %d, expected %d", rowKey(c.Before.Key), stored.Version, c.Before.Version)
		case c.After.Version != c.Before.Version+1:
			h.t.Fatalf("%s: version goes from %d to %d", rowKey(c.Before.Key), c.Before.Version, c.After.Version)
		}
		if c.After.MapIndex != c.Before.MapIndex {
			delete(h.rows, rowKey(c.Before.Key))
		}
		h.rows[rowKey(c.After.Key)] = c.After
	}
	if d.Run != nil {
		if d.Run.Before.Version != h.row.Version || d.Run.After.Version != h.row.Version+1 {
			h.t.Fatalf("run: versions %d → %d, stored %d", d.Run.Before.Version, d.Run.After.Version, h.row.Version)
		}
		h.row = d.Run.After
	}
	for _, c := range d.Callbacks {
		who := "dag"
		if c.Task != nil {
			who = c.Task.TaskID
		}
		h.callbacks = append(h.callbacks, fmt.Sprintf("%s %s: %s", who, c.Kind, c.Reason))
	}
	for _, k := range d.Kills {
		h.kills = append(h.kills, k.AttemptID)
	}
	h.last = d
}

func (h *harness) key(name string) run.Key {
	k := run.Key{DAGID: "d", RunID: "r", TaskID: name, MapIndex: -1}
	if id, index, ok := strings.Cut(strings.TrimSuffix(name, "]"), "["); ok {
		k.TaskID = id
		if _, err := fmt.Sscan(index, &k.MapIndex); err != nil {
			h.t.Fatalf("key %q: %v", name, err)
		}
	}
	return k
}

func (h *harness) keys(names string) []run.Key {
	var ks []run.Key
	for _, n := range strings.Fields(names) {
		ks = append(ks, h.key(n))
	}
	return ks
}

func (h *harness) instance(name string) run.TaskInstance {
	h.t.Helper()
	ti, ok := h.r.Instance(h.key(name))
	if !ok {
		h.t.Fatalf("no instance %s among %s", name, h.states())
	}
	return ti
}

// run admits and starts an instance.
func (h *harness) run(names string) {
	h.t.Helper()
	for _, name := range strings.Fields(names) {
		if s := h.instance(name).State; s != run.Scheduled {
			h.t.Fatalf("%s is %s, it cannot be admitted", name, s)
		}
		h.attempts++
		id := fmt.Sprintf("a%d", h.attempts)
		h.decide(Admitted{Key: h.key(name), AttemptID: id})
		h.decide(AttemptStarted{Key: h.key(name), AttemptID: id, At: h.now, PID: 1, Hostname: "host"})
	}
}

// finish ends the current attempt of an instance; edit fills in the outcome.
func (h *harness) finish(name string, s run.TaskState, edit ...func(*Outcome)) Decision {
	h.t.Helper()
	o := Outcome{AttemptID: h.instance(name).AttemptID, State: s, EndedAt: h.now}
	for _, e := range edit {
		e(&o)
	}
	return h.decide(AttemptFinished{Key: h.key(name), Outcome: o})
}

// play runs instances and ends them in a state.
func (h *harness) play(names string, s run.TaskState, edit ...func(*Outcome)) {
	h.t.Helper()
	for _, name := range strings.Fields(names) {
		h.run(name)
		h.finish(name, s, edit...)
	}
}

func (h *harness) pass(d time.Duration) Decision {
	h.t.Helper()
	h.now = h.now.Add(d)
	return h.decide(Tick{})
}

// states writes all instances as "a=success b[0]=none …", sorted.
func (h *harness) states() string {
	var all []string
	for _, ti := range h.r.Instances() {
		name := ti.TaskID
		if ti.MapIndex >= 0 {
			name = rowKey(ti.Key)
		}
		all = append(all, fmt.Sprintf("%s=%s", name, ti.State))
	}
	return strings.Join(all, " ")
}

func (h *harness) want(states string, state run.State) {
	h.t.Helper()
	if got := h.states(); got != states {
		h.t.Errorf("states\n got %s\nwant %s", got, states)
	}
	if got := h.r.Row().State; got != state {
		h.t.Errorf("run is %s, want %s", got, state)
	}
}

// returns makes an outcome push return values of a length.
func returns(n int) func(*Outcome) {
	return func(o *Outcome) { o.MapLengths = map[string]int{returnValue: n} }
}

// over maps a task over the return values of others.
func over(sources ...string) *dag.Mapping {
	m := &dag.Mapping{Kind: "expand"}
	for i, s := range sources {
		m.Args = append(m.Args, dag.MapArg{Name: fmt.Sprintf("arg%d", i), Length: -1, Source: &dag.MapSource{Op: dag.MapXCom, Task: s, Key: returnValue}})
	}
	return m
}

// fingerprint is everything a Run derives from its rows, to compare one kept by increments with one built anew.
func fingerprint(r *Run, now time.Time) string {
	var b strings.Builder
	fmt.Fprintf(&b, "unfinished %d waiting %d\n", r.unfinished, r.waiting)
	for p := range r.tasks {
		t := &r.tasks[p]
		fmt.Fprintf(&b, "%s: shared %+v waiting %d unfinished %d queued %v own", t.spec.ID, t.shared, t.waiting, t.unfinished, t.queued)
		for _, c := range t.own {
			fmt.Fprintf(&b, " %+v", c)
		}
		for _, in := range t.insts {
			row, err := json.Marshal(in.ti)
			if err != nil {
				panic(err)
			}
			fmt.Fprintf(&b, "\n  %s queued %v before %v", row, in.queued, in.before != nil)
		}
		b.WriteByte('\n')
	}
	pending := slices.Clone(r.timers)
	for pending.due(now) != nil { // what is due already is only kept by a run that does not run
	}
	next, ok := pending.next()
	fmt.Fprintf(&b, "next %s %v\n", next, ok)
	return b.String()
}

// rebuilt is the run built anew from the stored rows.
func (h *harness) rebuilt() *Run {
	tis := slices.Collect(maps.Values(h.rows))
	o := h.r.opt
	o.MapLengths = maps.Clone(h.r.lengths)
	return NewRun(h.x, h.row, tis, o)
}
