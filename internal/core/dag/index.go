package dag

import (
	"fmt"
	"slices"
)

// An Index is a DAG compiled for scheduling: tasks by position, edges both ways, a topological order, priority weights,
// groups, mappings and setup scopes. Positions are indexes into DAG.Tasks. An Index is immutable and is shared by all runs
// of a DAG version; build it once with NewIndex.
type Index struct {
	DAG *DAG

	pos        map[string]int
	upstream   [][]int
	downstream [][]int
	topo       []int
	weights    []int

	groups   map[string]*TaskGroup
	mapGroup []*TaskGroup // the mapped group around each task
	sources  [][]int      // the tasks whose values decide how a task unfolds
	mappers  [][]int      // the inverse of sources

	setups [][]int // setups that a task needs although it is not directly downstream of them
	scope  [][]int // the inverse of setups

	stateLeaves   []int
	dependsOnPast bool
}

// NewIndex compiles a DAG that passed Validate. It panics on a cycle or an unknown name, which Validate refuses.
func NewIndex(d *DAG) *Index {
	n := len(d.Tasks)
	x := &Index{
		DAG:        d,
		pos:        make(map[string]int, n),
		upstream:   make([][]int, n),
		downstream: make([][]int, n),
		groups:     make(map[string]*TaskGroup, len(d.Groups)),
	}
	for i := range d.Tasks {
		x.pos[d.Tasks[i].ID] = i
		x.dependsOnPast = x.dependsOnPast || d.Tasks[i].DependsOnPast || d.Tasks[i].WaitForDownstream
	}
	for i := range d.Groups {
		x.groups[d.Groups[i].ID] = &d.Groups[i]
	}
	for i := range d.Tasks {
		for _, id := range sortedSet(slices.Clone(d.Tasks[i].Upstream)) {
			u := x.mustPos(id)
			x.upstream[i] = append(x.upstream[i], u)
			x.downstream[u] = append(x.downstream[u], i)
		}
	}
	x.topo = x.sortTopologically()
	x.weights = x.priorityWeights()
	x.indexMappings()
	x.indexSetups()
	x.stateLeaves = x.findStateLeaves()
	return x
}

// Len is the number of tasks.
func (x *Index) Len() int { return len(x.DAG.Tasks) }

// Pos returns a task's position.
func (x *Index) Pos(id string) (int, bool) { p, ok := x.pos[id]; return p, ok }

// Task returns a task by id, nil when there is none.
func (x *Index) Task(id string) *Task {
	if p, ok := x.pos[id]; ok {
		return &x.DAG.Tasks[p]
	}
	return nil
}

// At returns the task at a position.
func (x *Index) At(pos int) *Task { return &x.DAG.Tasks[pos] }

// Upstream returns the positions of the tasks a task directly waits for. The slice is shared; do not change it.
func (x *Index) Upstream(pos int) []int { return x.upstream[pos] }

// Downstream returns the positions of the tasks that directly wait for a task. The slice is shared; do not change it.
func (x *Index) Downstream(pos int) []int { return x.downstream[pos] }

// Topological returns all positions so that every task comes after its upstream tasks; ties keep declaration order.
func (x *Index) Topological() []int { return x.topo }

// Weight is the task's effective priority by its weight rule; larger goes first.
func (x *Index) Weight(pos int) int { return x.weights[pos] }

// Group returns a task group, nil when there is none.
func (x *Index) Group(id string) *TaskGroup { return x.groups[id] }

// GroupMembers returns the positions of the tasks in a group and in the groups inside it.
func (x *Index) GroupMembers(id string) []int {
	var members []int
	for i := range x.DAG.Tasks {
		for g := x.DAG.Tasks[i].Group; g != ""; g = x.groups[g].Parent {
			if g == id {
				members = append(members, i)
				break
			}
		}
	}
	return members
}

// GroupTasks names the tasks in a group and in the groups inside it.
func (x *Index) GroupTasks(id string) []string {
	var names []string
	for _, pos := range x.GroupMembers(id) {
		names = append(names, x.At(pos).ID)
	}
	return names
}

// DependsOnPast tells whether any task looks at the previous run.
func (x *Index) DependsOnPast() bool { return x.dependsOnPast }

// StateLeaves returns the tasks whose states decide the state of the run: the leaves, where a teardown neither counts nor
// hides its upstream unless it has on_failure_fail_dagrun.
func (x *Index) StateLeaves() []int { return x.stateLeaves }

func (x *Index) findStateLeaves() []int {
	ignorable := func(p int) bool { t := x.At(p); return t.Teardown && !t.OnFailureFailDAGRun }
	var leaves, plain []int
	for p := range x.DAG.Tasks {
		if len(x.downstream[p]) == 0 {
			plain = append(plain, p)
		}
		if !ignorable(p) && !slices.ContainsFunc(x.downstream[p], func(d int) bool { return !ignorable(d) }) {
			leaves = append(leaves, p)
		}
	}
	if len(leaves) == 0 { // nothing but teardowns
		return plain
	}
	return leaves
}

func (x *Index) mustPos(id string) int {
	p, ok := x.pos[id]
	if !ok {
		panic(fmt.Sprintf("dag: index %s: unknown task %q; was it validated?", x.DAG.ID, id))
	}
	return p
}

func (x *Index) sortTopologically() []int {
	waiting := make([]int, x.Len())
	order := make([]int, 0, x.Len())
	for p := range waiting {
		if waiting[p] = len(x.upstream[p]); waiting[p] == 0 {
			order = append(order, p)
		}
	}
	for i := 0; i < len(order); i++ {
		for _, d := range x.downstream[order[i]] {
			if waiting[d]--; waiting[d] == 0 {
				order = append(order, d)
			}
		}
	}
	if len(order) != x.Len() {
		panic(fmt.Sprintf("dag: index %s: it has a cycle; was it validated?", x.DAG.ID))
	}
	return order
}
