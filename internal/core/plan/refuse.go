package plan

import (
	"fmt"
	"maps"
	"slices"

	"ostro.dev/ostro/internal/core/spelling"
)

// refusal says in words why a candidate cannot start now; "" when it can.
func (u *Usage) refusal(c *Candidate, l *Limits) string {
	if c.DAGPaused {
		return fmt.Sprintf("DAG %s is paused", c.Key.DAGID)
	}
	if why := u.executorFull(c, l); why != "" {
		return why
	}
	if why := u.poolFull(c, l); why != "" {
		return why
	}
	if why := u.limitReached(c); why != "" {
		return why
	}
	return u.resourcesTaken(c, l)
}

func (u *Usage) executorFull(c *Candidate, l *Limits) string {
	slots, known := l.Executors[c.Executor]
	switch used := u.executors[c.Executor]; {
	case !known:
		return fmt.Sprintf("executor %s cannot be reached%s", c.Executor, suggest(c.Executor, l.Executors))
	case used >= slots:
		return fmt.Sprintf("executor %s is full: %d of %d slots used", c.Executor, used, slots)
	}
	return ""
}

// allFull tells whether no executor has a free slot, so that nothing can start.
func (u *Usage) allFull(l *Limits) bool {
	for name, slots := range l.Executors {
		if u.executors[name] < slots {
			return false
		}
	}
	return true
}

func (u *Usage) poolFull(c *Candidate, l *Limits) string {
	pool, known := l.Pools[c.Pool]
	if !known {
		return fmt.Sprintf("pool %s does not exist%s", c.Pool, suggest(c.Pool, l.Pools))
	}
	used := u.pools[c.Pool].taken
	if pool.IncludeDeferred {
		used += u.pools[c.Pool].deferred
	}
	switch {
	case pool.Slots < 0 || used+c.PoolSlots <= pool.Slots:
		return ""
	case c.PoolSlots > pool.Slots:
		return fmt.Sprintf("it takes %d slots of pool %s, which has only %d", c.PoolSlots, c.Pool, pool.Slots)
	case used >= pool.Slots:
		return fmt.Sprintf("pool %s is full: %d of %d slots used", c.Pool, used, pool.Slots)
	default:
		return fmt.Sprintf("it takes %d slots of pool %s, where %d of %d are used", c.PoolSlots, c.Pool, used, pool.Slots)
	}
}

func (u *Usage) limitReached(c *Candidate) string {
	active, where := u.runs[c.runKey()], "its DAG run"
	if c.TasksScope == TaskScopeDAG {
		active, where = u.dags[c.Key.DAGID], "its DAG"
	}
	if reached(active, c.MaxActiveTasks) {
		return fmt.Sprintf("max_active_tasks: %d of %d tasks of %s are active", active, c.MaxActiveTasks, where)
	}
	if n := u.tasks[taskKey{c.Key.DAGID, c.Key.TaskID}]; reached(n, c.MaxActiveTIsPerDag) {
		return fmt.Sprintf("max_active_tis_per_dag: %d of %d instances of the task are active", n, c.MaxActiveTIsPerDag)
	}
	if n := u.runTasks[runTaskKey{c.runKey(), c.Key.TaskID}]; reached(n, c.MaxActiveTIsPerDagrun) {
		return fmt.Sprintf("max_active_tis_per_dagrun: %d of %d instances of the task are active in its DAG run", n, c.MaxActiveTIsPerDagrun)
	}
	return ""
}

// reached tells whether a limit is used up; 0 is no limit.
func reached(n, limit int) bool { return limit > 0 && n >= limit }

func (u *Usage) resourcesTaken(c *Candidate, l *Limits) string {
	res := c.Resources
	if res == nil || !l.StrictResources {
		return ""
	}
	switch {
	case res.Pod && (res.CPU > l.CPUs || res.Memory > l.Memory):
		return "" // waiting would not help: the task starts, and fails saying what the machine lacks
	case res.CPU > l.CPUs:
		return fmt.Sprintf("it asks for %g CPU cores, this machine has %g: it cannot start here", res.CPU, l.CPUs)
	case res.Memory > l.Memory:
		return fmt.Sprintf("it asks for %s of memory, this machine has %s: it cannot start here", bytes(res.Memory), bytes(l.Memory))
	case res.CPU > 0 && u.cpus+res.CPU > l.CPUs:
		return fmt.Sprintf("it asks for %g CPU cores, %g of %g are free", res.CPU, max(0, l.CPUs-u.cpus), l.CPUs)
	case res.Memory > 0 && u.memory+res.Memory > l.Memory:
		return fmt.Sprintf("it asks for %s of memory, %s of %s are free", bytes(res.Memory), bytes(max(0, l.Memory-u.memory)), bytes(l.Memory))
	}
	return ""
}

func bytes(n int64) string { return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30)) }

// suggest is the tail of a message about an unknown name.
func suggest[V any](name string, known map[string]V) string {
	if near := spelling.Nearest(name, slices.Collect(maps.Keys(known))); near != "" {
		return fmt.Sprintf(" (did you mean %s?)", near)
	}
	return ""
}
