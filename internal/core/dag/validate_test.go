package dag

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// graph makes a DAG from lines "task: upstream upstream".
func graph(lines string, edit ...func(*DAG)) *DAG {
	d := &DAG{ID: "d", File: "d.py"}
	for line := range strings.Lines(lines) {
		id, up, _ := strings.Cut(strings.TrimSpace(line), ":")
		if id != "" {
			d.Tasks = append(d.Tasks, Task{ID: id, Operator: "PythonOperator", Upstream: strings.Fields(up)})
		}
	}
	for _, e := range edit {
		e(d)
	}
	return d
}

// on changes one task of a graph.
func on(id string, change func(*Task)) func(*DAG) { return func(d *DAG) { change(d.Task(id)) } }

// over maps over the return values of tasks.
func over(tasks ...string) *Mapping {
	m := &Mapping{Kind: "expand"}
	for _, t := range tasks {
		m.Args = append(m.Args, MapArg{Name: t, Length: -1, Source: &MapSource{Op: MapXCom, Task: t}})
	}
	return m
}

func setup(t *Task)    { t.Setup = true }
func teardown(t *Task) { t.Teardown = true }

func TestValidateNamesTheFault(t *testing.T) {
	minus := Seconds(-1)
	for _, c := range []struct {
		name string
		dag  *DAG
		want []string
	}{
		{"nothing wrong", graph("a:\nb: a"), nil},
		{"a cycle", graph("c: b\na: c\nb: a\nd: c"), []string{"cycle: a → b → c → a"}},
		{"a task that waits for itself", graph("a: a"), []string{"cycle: a → a"}},
		{"two cycles", graph("a: b\nb: a\nx: y\ny: x"), []string{"cycle: a → b → a", "cycle: x → y → x"}},
		{"an unknown upstream task", graph("train:\neval: trian"), []string{`task "eval": upstream task "trian" does not exist (did you mean "train"?)`}},
		{"an unknown upstream task like no other", graph("a:\nb: something_else"), []string{`task "b": upstream task "something_else" does not exist`}},
		{"a task id used twice", graph("a:\nb:\na: b"), []string{`task id "a" is used twice`}},
		{"characters", graph("a b/ü:"), []string{`task id "a b/ü" may only contain ASCII letters, digits, dashes, dots and underscores`}},
		{"all allowed characters", graph("aZ-0._9:"), nil},
		{"no id", &DAG{}, []string{"dag id is empty"}},
		{"a long id", &DAG{ID: strings.Repeat("x", 251)}, []string{`dag id "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"… has 251 characters, more than 250`}},
		{"groups", graph("a:\ng:", func(d *DAG) {
			d.Groups = []TaskGroup{{ID: "g"}, {ID: "h", Parent: "hh"}, {ID: "h"}}
			d.Tasks[0].Group = "gg"
		}), []string{`id "g" names both a task and a group`, `group id "h" is used twice`, `task "a": task group "gg" does not exist (did you mean "g"?)`, `group "h": parent group "hh" does not exist (did you mean "h"?)`}},
		{"groups in a ring", graph("a:", func(d *DAG) {
			d.Groups = []TaskGroup{{ID: "g", Parent: "h"}, {ID: "h", Parent: "g"}}
		}), []string{`group "g" is inside itself`, `group "h" is inside itself`}},
		{"an unknown trigger rule", graph("a:", on("a", func(t *Task) { t.TriggerRule = "all_sucess" })), []string{`task "a": trigger rule "all_sucess" does not exist (did you mean "all_success"?)`}},
		{"fail_fast with another rule", graph("a:\nb: a\nc: a b", on("b", func(t *Task) { t.TriggerRule = AllDone }), on("c", teardown), func(d *DAG) { d.FailFast = true }),
			[]string{`task "b": in a DAG with fail_fast the trigger rule must be all_success, not all_done`}},
		{"a teardown with a rule of its own", graph("a:", on("a", teardown), on("a", func(t *Task) { t.TriggerRule = AllDone })),
			[]string{`task "a": a teardown's trigger rule is always all_done_setup_success, it cannot be all_done`}},
		{"setup and teardown at once", graph("a:", on("a", setup), on("a", teardown)), []string{`task "a": it is both a setup and a teardown`}},
		{"setups of a teardown", graph("up:\nb:\ndown: up", on("up", setup), on("down", teardown), on("down", func(t *Task) { t.Setups = []string{"up", "b", "pu"} }), on("b", func(t *Task) { t.Setups = []string{"up"} })),
			[]string{`task "b": it names setups but is not a teardown`, `task "down": task "b" is named as its setup but is not a setup task`, `task "down": setup task "pu" does not exist (did you mean "up"?)`}},
		{"what follows a setup", graph("up:\nb: up", on("up", setup), on("b", func(t *Task) { t.TriggerRule = AllDone })),
			[]string{`task "b": it follows the setup task "up", so its trigger rule must be all_success, not all_done`}},
		{"numbers", graph("a:", func(d *DAG) { d.MaxActiveRuns, d.MaxActiveTasks, d.MaxConsecutiveFailedRuns = -1, -2, -3 }, on("a", func(t *Task) {
			t.PoolSlots, t.Retries, t.RetryDelay, t.RetryExponentialFactor = -1, -1, minus, -2
			t.ExecutionTimeout, t.MaxActiveTIsPerDag, t.MaxActiveTIsPerDagrun = &minus, -1, -1
		}), func(d *DAG) { d.DagrunTimeout = new(Seconds) }), []string{
			"max_active_runs must not be negative, not -1", "max_active_tasks must not be negative, not -2",
			"max_consecutive_failed_dag_runs must not be negative, not -3", "dagrun_timeout must be longer than zero, not 0s",
			`task "a": pool_slots must be at least 1, not -1`, `task "a": retries must not be negative, not -1`,
			`task "a": max_active_tis_per_dag must not be negative, not -1`, `task "a": max_active_tis_per_dagrun must not be negative, not -1`,
			`task "a": retry_delay must not be negative, not -1ns`, `task "a": retry_exponential_backoff must not be negative, not -2`,
			`task "a": execution_timeout must be longer than zero, not -1ns`,
		}},
		{"words", graph("a:", func(d *DAG) { d.Compat = "airflow4" }, on("a", func(t *Task) { t.Kind, t.WeightRule, t.Isolation = "proces", "sideways", "frok" })), []string{
			`compat "airflow4" is neither airflow2 nor airflow3`, `task "a": kind "proces" is not one of process, empty (did you mean "process"?)`,
			`task "a": weight rule "sideways" is not one of downstream, upstream, absolute`, `task "a": isolation "frok" is not one of fork, spawn (did you mean "fork"?)`,
		}},
		{"the rest of a DAG", graph("a:", func(d *DAG) {
			d.Tags, d.ResultTask, d.Schedule.Kind = []string{strings.Repeat("t", 101)}, "b", ScheduleOnce
			d.Params = map[string]Param{"p": {}, "q": {Value: json.RawMessage("1")}}
		}), []string{`tag "tttttttttttttttttttt"… has 101 characters, more than 100`, `result task "b" does not exist`, `param "p" has no default, so the DAG cannot have a schedule`}},
		{"mapping over what is not upstream", graph("a:\nb:\nc: a", on("c", func(t *Task) { t.Mapped = over("b", "a", "aa") })), []string{
			`task "c": it is mapped over task "b", which is not upstream of it`, `task "c": it is mapped over task "aa", which does not exist (did you mean "a"?)`,
		}},
		{"mappings that say nothing", graph("a:\nb:\nc:\nd: a", on("a", func(t *Task) { t.Mapped = &Mapping{Kind: "explode"} }), on("b", func(t *Task) { t.Mapped = &Mapping{Kind: "expand"} }),
			on("c", func(t *Task) { t.Mapped = &Mapping{Kind: "expand_kwargs"} }),
			on("d", func(t *Task) {
				t.Mapped = &Mapping{Kind: "expand", Args: []MapArg{{Name: "x", Length: -1}, {Name: "y", Length: -1, Source: &MapSource{Op: MapZip, Args: []MapSource{{Op: "fold"}, {Op: MapXCom}, {Op: MapMap, Args: make([]MapSource, 2)}}}}}}
			})), []string{
			`task "a": mapping kind "explode" is neither expand nor expand_kwargs`, `task "b": it is mapped over nothing`, `task "c": expand_kwargs takes one argument, not 0`,
			`task "d": mapped argument "x" has neither a length nor a source`, `task "d": mapped argument "y": unknown operation "fold"`,
			`task "d": mapped argument "y": an xcom source names no task`, `task "d": mapped argument "y": map takes one source, not 2`,
			`task "d": mapped argument "y": unknown operation ""`, `task "d": mapped argument "y": unknown operation ""`,
		}},
		{"nested mappings", graph("s:\na: s\nb: a", on("a", func(t *Task) { t.Group = "in" }), on("b", func(t *Task) { t.Group, t.Mapped = "out", over("s") }), func(d *DAG) {
			d.Groups = []TaskGroup{{ID: "out", Mapped: over("s")}, {ID: "in", Parent: "out", Mapped: over("s")}}
		}), []string{`group "in": a mapped group cannot be inside the mapped group "out"`, `task "b": a mapped task cannot be inside the mapped group "out"`}},
		{"a mapped group", graph("s:\na: s\nb: a", on("a", func(t *Task) { t.Group = "g" }), on("b", func(t *Task) { t.Group = "g" }), func(d *DAG) {
			d.Groups = []TaskGroup{{ID: "g", Mapped: over("s")}}
		}), nil},
		{"a group mapped over its own task", graph("s:\na: s\nb: a", on("a", func(t *Task) { t.Group = "g" }), on("b", func(t *Task) { t.Group = "g" }), func(d *DAG) {
			d.Groups = []TaskGroup{{ID: "g", Mapped: over("a")}}
		}), []string{`group "g": it is mapped over task "a", which is not upstream of it`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var faults []string
			var invalid *InvalidError
			if err := Validate(c.dag); errors.As(err, &invalid) {
				faults = invalid.Faults
			} else if err != nil {
				t.Fatalf("unexpected kind of error: %v", err)
			}
			if d := cmp.Diff(c.want, faults); d != "" {
				t.Errorf("faults (-want +got)\n%s", d)
			}
		})
	}
}

func TestValidateAsksOthersToo(t *testing.T) {
	err := Validate(graph("a: b"), func(*DAG) error { return errors.New(`cron "x": no such day`) })
	if got, want := err.Error(), `dag "d": task "a": upstream task "b" does not exist; cron "x": no such day`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
