package dag

// An Index is a DAG compiled for scheduling: tasks by position, edges both ways, a topological order, priority weights,
// groups and setup scopes. Positions are indexes into DAG.Tasks. An Index is immutable and may be shared by all runs of
// the DAG version; build it once with NewIndex.
type Index struct {
	DAG *DAG

	pos        map[string]int
	upstream   [][]int
	downstream [][]int
	topo       []int
	weight     []int
	groups     map[string]int
	mapScope   []int
	setups     [][]int
	scope      [][]int
	leaves     []int
	fanout     []bool
	dependents [][]int
}

// NewIndex compiles a DAG that passed Validate. It panics on a cycle or an unknown upstream, which Validate refuses.
func NewIndex(d *DAG) *Index { panic("unbuilt") }

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
