package chaos

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// soakParts is what the DAGs of the soak share: what each attempt does, a trigger in Python, and an operator that defers.
// LEDGER is replaced.
const soakParts = `
import asyncio
import os
import time

from airflow.models import BaseOperator
from airflow.triggers.base import BaseTrigger, TriggerEvent


def part():
    attempt = os.environ["OSTRO_ATTEMPT_ID"]
    fd = os.open("LEDGER", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.write(fd, (attempt + " " + os.environ["OSTRO_TASK_ID"] + "\n").encode())
    os.close(fd)
    for i in range(5):
        print("line %d of %s" % (i, attempt), flush=True)
        time.sleep(0.02)


class Soon(BaseTrigger):
    def __init__(self, seconds):
        super().__init__()
        self.seconds = seconds

    def serialize(self):
        return "soakparts.Soon", {"seconds": self.seconds}

    async def run(self):
        await asyncio.sleep(self.seconds)
        yield TriggerEvent(self.seconds)


class Defers(BaseOperator):
    def __init__(self, seconds, **kwargs):
        super().__init__(**kwargs)
        self.seconds = seconds

    def execute(self, context):
        part()
        self.defer(trigger=Soon(self.seconds), method_name="later")

    def later(self, context, event):
        part()
        return event
`

// soakHead begins a DAG file; DAG is replaced.
const soakHead = `
from datetime import timedelta

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.providers.standard.sensors.python import PythonSensor
from airflow.providers.standard.sensors.time_delta import TimeDeltaSensor
from airflow.sdk import DAG, Asset, TaskGroup, task, task_group
from soakparts import Defers, part


@task
def step(value=0):
    part()
    return value + 1


@task
def numbers(before, n):
    part()
    return list(range(n))


@task
def pair(a, b):
    part()
    return 10 * a + b


@task
def total(values):
    part()
    return sum(values)


@task(retries=1, retry_delay=timedelta(milliseconds=100))
def broken():
    part()
    raise ValueError("as planned")


@task(retries=2, retry_delay=timedelta(milliseconds=100))
def flaky(ti=None):
    part()
    if ti.max_tries - ti.try_number > 0:
        raise ValueError("the first time, whatever else was lost before")
    return 7


with DAG("DAG", schedule=None, default_args={"retries": 0}):
`

// A kind is one thing a DAG may be made of. BB stands for the id of the task it begins with, NN for a small number; the
// text sets BB_ends, what others follow.
type kind struct {
	text string
	odd  map[string]string // the tasks that do not succeed, by what follows BB in their id
}

var kinds = []kind{
	{text: `
    BB_ends = [step.override(task_id="BB_2")(step.override(task_id="BB_1")(BB))]
`},
	{text: `
    BB_each = step.override(task_id="BB_each").expand(value=list(range(NN)))
    BB >> BB_each
    BB_ends = [total.override(task_id="BB_total")(BB_each)]
`},
	{text: `
    BB_list = numbers.override(task_id="BB_list")(BB, NN)
    BB_each = step.override(task_id="BB_each").expand(value=BB_list)
    BB_ends = [total.override(task_id="BB_total")(step.override(task_id="BB_again").expand(value=BB_each))]
`},
	{text: `
    BB_list = numbers.override(task_id="BB_list")(BB, NN)
    BB_ends = [total.override(task_id="BB_total")(pair.override(task_id="BB_pair").expand(a=[1, 2], b=BB_list))]
`},
	{text: `
    @task_group(group_id="BB_box")
    def BB_box(n):
        return step.override(task_id="second")(step.override(task_id="first")(n))

    BB_list = numbers.override(task_id="BB_list")(BB, NN)
    BB_ends = [total.override(task_id="BB_total")(BB_box.expand(n=BB_list))]
`},
	{text: `
    BB_none = step.override(task_id="BB_none").expand(value=numbers.override(task_id="BB_list")(BB, 0))
    BB_ends = [total.override(task_id="BB_after", trigger_rule="none_failed")(BB_none)]
`, odd: map[string]string{"_none": "skipped"}},
	{text: `
    with TaskGroup("BB_group"):
        BB_up = step.override(task_id="up")(BB)
        BB_work = broken.override(task_id="work")()
        BB_more = step.override(task_id="more")()
        BB_down = step.override(task_id="down")()
        BB_up >> [BB_work, BB_more] >> BB_down.as_teardown(setups=BB_up)
    BB_ends = [BB_work, BB_more]
`, odd: map[string]string{"_group.work": "failed"}},
	{text: `
    @task.branch(task_id="BB_branch")
    def BB_branch():
        part()
        return "BB_left"

    BB_join = step.override(task_id="BB_join", trigger_rule="none_failed_min_one_success")()
    BB >> BB_branch() >> [step.override(task_id="BB_left")(), step.override(task_id="BB_right")()] >> BB_join
    BB_ends = [BB_join]
`, odd: map[string]string{"_right": "skipped"}},
	{text: `
    @task.short_circuit(task_id="BB_stop", ignore_downstream_trigger_rules=False)
    def BB_stop():
        part()
        return False

    BB_join = step.override(task_id="BB_join", trigger_rule="all_done")()
    BB >> BB_stop() >> step.override(task_id="BB_below")() >> BB_join
    BB_ends = [BB_join]
`, odd: map[string]string{"_below": "skipped"}},
	{text: `
    BB_ends = [Defers(task_id="BB_waits", seconds=2.5)]
    BB >> BB_ends
`},
	{text: `
    BB_waits = Defers.partial(task_id="BB_waits").expand(seconds=[0.5, 1.5, 3.0])
    BB >> BB_waits
    BB_ends = [BB_waits]
`},
	{text: `
    BB_ends = [TimeDeltaSensor(task_id="BB_later", delta=timedelta(seconds=2), deferrable=True)]
    BB >> BB_ends
`},
	{text: `
    @task.sensor(task_id="BB_looks", mode="reschedule", poke_interval=0.3, timeout=600)
    def BB_looks(task_reschedule_count):
        part()
        return task_reschedule_count >= NN

    BB_ends = [BB_looks()]
    BB >> BB_ends
`},
	{text: `
    BB_ends = [step.override(task_id="BB_wide", pool="narrow", pool_slots=2)(BB)]
    for i in range(NN):
        BB_ends.append(step.override(task_id="BB_narrow%d" % i, pool="narrow")(BB))
`},
	{text: `
    BB_ends = [flaky.override(task_id="BB_flaky")()]
    BB >> BB_ends
`},
	{text: `
    BB_broken = broken.override(task_id="BB_broken")()
    BB_ends = [step.override(task_id="BB_never")(BB_broken)]
    BB >> BB_broken
`, odd: map[string]string{"_broken": "failed", "_never": "upstream_failed"}},
	{text: `
    BB_ends = [ApprovalOperator(task_id="BB_person", subject="Go on?")]
    BB >> BB_ends
`},
	{text: `
    BB_ends = [step.override(task_id="BB_makes", outlets=[Asset("soaked")])(BB)]
`},
}

// soakConsumer is started by what others make.
const soakConsumer = `
from airflow.sdk import DAG, Asset, task
from soakparts import part

with DAG("consumer", schedule=Asset("soaked"), default_args={"retries": 0}):
    @task
    def read(triggering_asset_events):
        part()
        return len(triggering_asset_events[Asset("soaked")])
    read()
`

// shapeOf is a DAG of n tasks, each time others: the file's next content while runs of its last are under way.
func shapeOf(n int) string {
	return strings.ReplaceAll(soakHead, `"DAG"`, `"shape"`) + fmt.Sprintf(`
    last = None
    for i in range(%d):
        made = step.override(task_id="n%d_%%d" %% i)(last or 0)
        last = made
`, n, n)
}

// A randomDAG is a DAG file and what its rules come to.
type randomDAG struct {
	id, text string
	odd      map[string]string // the tasks that do not succeed
}

// randomDAGs makes DAGs in which every kind occurs. The last one's file leaves a thread behind, so that its tasks are spawned.
// They have tries to spare: who kills the keeper of a spawned task uses one up, since the task may have done it.
func randomDAGs(random *rand.Rand, n int) []randomDAG {
	order := random.Perm(len(kinds))
	all := make([]randomDAG, n, n+1)
	for i := range n {
		id := fmt.Sprintf("random%d", i)
		all[i] = randomDAG{id: id, text: strings.ReplaceAll(soakHead, `"DAG"`, `"`+id+`"`), odd: map[string]string{}}
	}
	places := make([]int, n)
	for i, k := range order {
		all[i%n].add(random, places[i%n], kinds[k])
		places[i%n]++
	}
	spawned := randomDAG{id: "spawned", odd: map[string]string{}, text: "import threading, time\n" +
		"threading.Thread(target=time.sleep, args=(3600,), daemon=True).start()\n" + strings.NewReplacer(`"DAG"`, `"spawned"`, `{"retries": 0}`, `{"retries": 100, "retry_delay": timedelta(milliseconds=100)}`).Replace(soakHead)}
	spawned.add(random, 0, kinds[1+random.IntN(3)])
	all = append(all, spawned)
	return all
}

// add puts a part behind some of those that are there.
func (d *randomDAG) add(random *rand.Rand, place int, k kind) {
	name := fmt.Sprintf("b%d", place)
	d.text += fmt.Sprintf("    %s = step.override(task_id=%q, trigger_rule=\"all_done\")()\n", name, name)
	for before := range place {
		if random.IntN(place) == 0 {
			d.text += fmt.Sprintf("    b%d_ends >> %s\n", before, name)
		}
	}
	d.text += strings.NewReplacer("BB", name, "NN", fmt.Sprint(2+random.IntN(3))).Replace(k.text)
	for suffix, state := range k.odd {
		d.odd[name+suffix] = state
	}
}
