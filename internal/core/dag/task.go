package dag

import "encoding/json"

// TriggerRules lists every trigger rule, in the order Airflow documents them.
var TriggerRules = []TriggerRule{
	AllSuccess, AllFailed, AllDone, AllDoneMinOneSuccess, AllDoneSetupSuccess, OneSuccess, OneFailed, OneDone,
	NoneFailed, NoneSkipped, Always, NoneFailedMinOneSuccess, AllSkipped,
}

// WeightRules are the ways a task's priority takes its relatives into account.
const (
	WeightDownstream = "downstream" // own weight and that of every task after it (the default)
	WeightUpstream   = "upstream"   // own weight and that of every task before it
	WeightAbsolute   = "absolute"   // own weight alone
)

// Rule is the task's trigger rule with its default filled in: all_success, and all_done_setup_success for a teardown.
func (t *Task) Rule() TriggerRule {
	switch {
	case t.TriggerRule != "":
		return t.TriggerRule
	case t.Teardown:
		return AllDoneSetupSuccess
	default:
		return AllSuccess
	}
}

// PoolName is the pool the task takes slots from.
func (t *Task) PoolName() string {
	if t.Pool == "" {
		return "default_pool"
	}
	return t.Pool
}

// Slots is the number of pool slots one instance takes.
func (t *Task) Slots() int { return max(1, t.PoolSlots) }

// Instant tells whether the scheduler itself completes the task, without a process: an EmptyOperator that has neither
// callbacks to run nor assets to update.
func (t *Task) Instant() bool {
	return t.Kind == KindEmpty && !t.Callbacks.OnExecute && !t.Callbacks.OnSuccess && len(t.Outlets) == 0
}

// Clone returns a deep copy.
func (d *DAG) Clone() *DAG {
	b, err := json.Marshal(d)
	if err != nil {
		panic("dag: clone " + d.ID + ": " + err.Error()) // only invalid RawMessage fields can do this; they came from JSON
	}
	c := new(DAG)
	if err := json.Unmarshal(b, c); err != nil {
		panic("dag: clone " + d.ID + ": " + err.Error())
	}
	return c
}

// Task returns the task with an id, nil when there is none. It looks at every task; an Index does not.
func (d *DAG) Task(id string) *Task {
	for i := range d.Tasks {
		if d.Tasks[i].ID == id {
			return &d.Tasks[i]
		}
	}
	return nil
}

// Literal tells whether the number of instances is known without running anything.
func (m *Mapping) Literal() bool {
	_, ok := m.Count(nil)
	return ok
}

// Count computes how many instances the mapping unfolds into. length returns the length of an upstream value and false
// while it is unknown; a nil length knows none. Count returns false while any length it needs is unknown.
func (m *Mapping) Count(length func(MapSource) (int, bool)) (int, bool) {
	n := 1
	for _, a := range m.Args {
		l, ok := a.length(length)
		if !ok {
			return 0, false
		}
		n *= l
	}
	return n, true
}

// Sources returns the XCom references the mapping's length depends on, in order of appearance.
func (m *Mapping) Sources() []MapSource {
	var found []MapSource
	for _, a := range m.Args {
		if a.Length < 0 && a.Source != nil {
			a.Source.walk(func(s MapSource) { found = append(found, s) })
		}
	}
	return found
}

func (a *MapArg) length(length func(MapSource) (int, bool)) (int, bool) {
	switch {
	case a.Length >= 0 && a.Source == nil:
		return a.Length, true
	case a.Source == nil:
		return 0, false
	default:
		return a.Source.length(length)
	}
}

// Operations of MapSource.
const (
	MapXCom   = "xcom"
	MapMap    = "map"
	MapZip    = "zip"
	MapConcat = "concat"
)

func (s *MapSource) length(length func(MapSource) (int, bool)) (int, bool) {
	if s.Length != nil {
		return *s.Length, true
	}
	if s.Op == MapXCom {
		if length == nil {
			return 0, false
		}
		return length(*s)
	}
	total := 0
	for i := range s.Args {
		n, ok := s.Args[i].length(length)
		if !ok {
			return 0, false
		}
		switch {
		case i == 0:
			total = n
		case s.Op == MapConcat:
			total += n
		case s.Op == MapZip && s.FillValue:
			total = max(total, n)
		case s.Op == MapZip:
			total = min(total, n)
		}
	}
	return total, true
}

func (s *MapSource) walk(visit func(MapSource)) {
	if s.Op == MapXCom && s.Length == nil {
		visit(*s)
	}
	for i := range s.Args {
		s.Args[i].walk(visit)
	}
}
