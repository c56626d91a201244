package dag

import (
	"fmt"
	"slices"
	"strings"

	"ostro.dev/ostro/internal/core/spelling"
)

// maxIDLength is the longest DAG, task or group id, as in Airflow.
const maxIDLength = 250

// maxTagLength is the longest tag, as in Airflow.
const maxTagLength = 100

// An InvalidError lists everything that is wrong with a DAG, one sentence each.
type InvalidError struct {
	DAGID  string
	Faults []string
}

// Error puts all faults on one line.
func (e *InvalidError) Error() string {
	return fmt.Sprintf("dag %q: %s", e.DAGID, strings.Join(e.Faults, "; "))
}

// Validate checks everything the scheduler relies on and returns an *InvalidError with all faults, or nil. What needs more
// than the DAG itself, such as the schedule, is checked by the functions in checks, whose errors become faults too.
func Validate(d *DAG, checks ...func(*DAG) error) error {
	v := &validator{dag: d, tasks: map[string]*Task{}, groups: map[string]*TaskGroup{}}
	v.names()
	v.settings()
	for i := range d.Tasks {
		v.task(&d.Tasks[i])
	}
	v.nesting()
	if v.acyclic() {
		v.mappings()
	}
	for _, check := range checks {
		if err := check(d); err != nil {
			v.fault("%s", err)
		}
	}
	if len(v.faults) == 0 {
		return nil
	}
	return &InvalidError{DAGID: d.ID, Faults: v.faults}
}

type validator struct {
	dag    *DAG
	faults []string
	tasks  map[string]*Task
	groups map[string]*TaskGroup
	ids    []string // of tasks, for suggestions
}

func (v *validator) fault(format string, args ...any) {
	v.faults = append(v.faults, fmt.Sprintf(format, args...))
}

// names checks all ids and fills the lookup tables.
func (v *validator) names() {
	v.id("dag id", v.dag.ID)
	for i := range v.dag.Tasks {
		t := &v.dag.Tasks[i]
		v.id("task id", t.ID)
		if v.tasks[t.ID] != nil {
			v.fault("task id %q is used twice", t.ID)
			continue
		}
		v.tasks[t.ID] = t
		v.ids = append(v.ids, t.ID)
	}
	for i := range v.dag.Groups {
		g := &v.dag.Groups[i]
		v.id("group id", g.ID)
		switch {
		case v.groups[g.ID] != nil:
			v.fault("group id %q is used twice", g.ID)
		case v.tasks[g.ID] != nil:
			v.fault("id %q names both a task and a group", g.ID)
		}
		v.groups[g.ID] = g
	}
}

func (v *validator) id(what, id string) {
	switch {
	case id == "":
		v.fault("%s is empty", what)
	case len(id) > maxIDLength:
		v.fault("%s %.40q… has %d characters, more than %d", what, id, len(id), maxIDLength)
	case !ValidID(id):
		v.fault("%s %q may only contain ASCII letters, digits, dashes, dots and underscores", what, id)
	}
}

// ValidID tells whether an id has only the characters that ids of DAGs, tasks and groups may have.
func ValidID(id string) bool {
	for _, c := range []byte(id) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '.', c == '_':
		default:
			return false
		}
	}
	return id != ""
}

// settings checks what concerns the DAG as a whole.
func (v *validator) settings() {
	d := v.dag
	if d.Compat != "" && d.Compat != CompatAirflow2 && d.Compat != CompatAirflow3 {
		v.fault("compat %q is neither %s nor %s", d.Compat, CompatAirflow2, CompatAirflow3)
	}
	v.notNegative("max_active_runs", d.MaxActiveRuns)
	v.notNegative("max_active_tasks", d.MaxActiveTasks)
	v.notNegative("max_consecutive_failed_dag_runs", d.MaxConsecutiveFailedRuns)
	if d.DagrunTimeout != nil && *d.DagrunTimeout <= 0 {
		v.fault("dagrun_timeout must be longer than zero, not %s", d.DagrunTimeout.Duration())
	}
	for _, tag := range d.Tags {
		if len(tag) > maxTagLength {
			v.fault("tag %.20q… has %d characters, more than %d", tag, len(tag), maxTagLength)
		}
	}
	if d.ResultTask != "" && v.tasks[d.ResultTask] == nil {
		v.fault("result task %q does not exist%s", d.ResultTask, didYouMean(d.ResultTask, v.ids))
	}
	if d.Schedule.Kind == "" || d.Schedule.Kind == ScheduleNone {
		return
	}
	for _, name := range sortedKeys(d.Params) {
		if d.Params[name].Value == nil {
			v.fault("param %q has no default, so the DAG cannot have a schedule", name)
		}
	}
}

func (v *validator) notNegative(what string, n int) {
	if n < 0 {
		v.fault("%s must not be negative, not %d", what, n)
	}
}

// task checks one task but for its place in the graph.
func (v *validator) task(t *Task) {
	name := fmt.Sprintf("task %q: ", t.ID)
	for _, u := range t.Upstream {
		if v.tasks[u] == nil {
			v.fault("%supstream task %q does not exist%s", name, u, didYouMean(u, v.ids))
		}
	}
	if t.Group != "" && v.groups[t.Group] == nil {
		v.fault("%stask group %q does not exist%s", name, t.Group, didYouMean(t.Group, sortedKeys(v.groups)))
	}
	v.choice(name+"kind", t.Kind, "", KindProcess, KindEmpty)
	v.choice(name+"weight rule", t.WeightRule, "", WeightDownstream, WeightUpstream, WeightAbsolute)
	v.choice(name+"isolation", t.Isolation, "", "fork", "spawn")
	if t.PoolSlots < 0 {
		v.fault("%spool_slots must be at least 1, not %d", name, t.PoolSlots)
	}
	v.notNegative(name+"retries", t.Retries)
	v.notNegative(name+"max_active_tis_per_dag", t.MaxActiveTIsPerDag)
	v.notNegative(name+"max_active_tis_per_dagrun", t.MaxActiveTIsPerDagrun)
	if t.RetryDelay < 0 {
		v.fault("%sretry_delay must not be negative, not %s", name, t.RetryDelay.Duration())
	}
	if t.RetryExponentialFactor < 0 {
		v.fault("%sretry_exponential_backoff must not be negative, not %g", name, t.RetryExponentialFactor)
	}
	if t.ExecutionTimeout != nil && *t.ExecutionTimeout <= 0 {
		v.fault("%sexecution_timeout must be longer than zero, not %s", name, t.ExecutionTimeout.Duration())
	}
	v.resources(name, t.Resources)
	v.rule(name, t)
	v.setupTeardown(name, t)
}

func (v *validator) resources(name string, r *Resources) {
	if r == nil {
		return
	}
	v.notNegative(name+"resources: gpus", r.GPUs)
	if r.CPU < 0 || r.Memory < 0 || r.GPUMemory < 0 {
		v.fault("%sresources must not be negative", name)
	}
	if r.GPUMemory > 0 && r.GPUs == 0 {
		v.fault("%sresources: gpu_memory without gpus", name)
	}
}

func (v *validator) choice(what, value string, known ...string) {
	if !slices.Contains(known, value) {
		v.fault("%s %q is not one of %s%s", what, value, strings.TrimPrefix(strings.Join(known, ", "), ", "), didYouMean(value, known))
	}
}

func (v *validator) rule(name string, t *Task) {
	rule := t.Rule()
	switch {
	case !slices.Contains(TriggerRules, rule):
		known := make([]string, len(TriggerRules))
		for i, r := range TriggerRules {
			known[i] = string(r)
		}
		v.fault("%strigger rule %q does not exist%s", name, rule, didYouMean(string(rule), known))
	case t.Teardown && rule != AllDoneSetupSuccess:
		v.fault("%sa teardown's trigger rule is always %s, it cannot be %s", name, AllDoneSetupSuccess, rule)
	case v.dag.FailFast && !t.Teardown && rule != AllSuccess:
		v.fault("%sin a DAG with fail_fast the trigger rule must be %s, not %s", name, AllSuccess, rule)
	}
}

func (v *validator) setupTeardown(name string, t *Task) {
	if t.Setup && t.Teardown {
		v.fault("%sit is both a setup and a teardown", name)
	}
	if len(t.Setups) > 0 && !t.Teardown {
		v.fault("%sit names setups but is not a teardown", name)
	}
	for _, s := range t.Setups {
		switch up := v.tasks[s]; {
		case up == nil:
			v.fault("%ssetup task %q does not exist%s", name, s, didYouMean(s, v.ids))
		case !up.Setup:
			v.fault("%stask %q is named as its setup but is not a setup task", name, s)
		}
	}
	if t.Teardown {
		return
	}
	for _, u := range t.Upstream {
		if up := v.tasks[u]; up != nil && up.Setup && t.Rule() != AllSuccess {
			v.fault("%sit follows the setup task %q, so its trigger rule must be %s, not %s", name, u, AllSuccess, t.Rule())
		}
	}
}

// didYouMean is the tail of a message about an unknown name: ` (did you mean "x"?)`, or nothing.
func didYouMean(name string, known []string) string {
	if n := spelling.Nearest(name, known); n != "" {
		return fmt.Sprintf(" (did you mean %q?)", n)
	}
	return ""
}
