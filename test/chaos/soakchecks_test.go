package chaos

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/go-cmp/cmp"
)

// soakInstance is a task instance as the API shows it.
type soakInstance struct {
	taskInstance
	MapIndex int `json:"map_index"`
	MaxTries int `json:"max_tries"`
	Ostro    struct {
		Reason    string `json:"reason"`
		Waiting   string `json:"waiting"`
		AttemptID string `json:"attempt_id"`
	} `json:"ostro"`
}

func (ti soakInstance) name() string { return fmt.Sprintf("%s[%d]", ti.TaskID, ti.MapIndex) }

// An outcome is all of a run's end that kills must not change.
type outcome struct {
	State string
	Tasks map[string]taskEnd // by task and map index
}

// taskEnd is how one task instance ended.
type taskEnd struct {
	State string
	Left  int    // the author's tries that are left
	Lines int    // what the last attempt has printed, as its log has it
	Value string // what it returned
}

// parentKilled is how a try ends whose keeper was killed: the worker cannot know that it was not the task's own doing.
const parentKilled = "the task's parent"

// instances lists the task instances of a run.
func (s *soaking) instances(r soakRun) (all []soakInstance) {
	s.t.Helper()
	var answer struct {
		TaskInstances []soakInstance `json:"task_instances"`
	}
	if err := s.call("GET", "/api/v2/dags/"+r.dag+"/dagRuns/"+r.id+"/taskInstances?limit=1000", nil, &answer); err != nil {
		s.t.Error(err)
	}
	return answer.TaskInstances
}

func (s *soaking) outcome(r soakRun) outcome {
	s.t.Helper()
	o := outcome{State: s.state(r.dag, r.id), Tasks: map[string]taskEnd{}}
	for _, ti := range s.instances(r) {
		e := taskEnd{State: ti.State, Left: ti.MaxTries - ti.TryNumber + s.orphaned(r, ti)}
		if ti.State == "success" || ti.State == "failed" {
			e.Lines = s.printed(r, ti)
		}
		if ti.State == "success" {
			e.Value = s.returned(r, ti)
		}
		o.Tasks[ti.name()] = e
	}
	return o
}

// orphaned counts the tries of an instance that ended with their keeper.
func (s *soaking) orphaned(r soakRun, ti soakInstance) (n int) {
	if ti.TryNumber < 2 {
		return 0
	}
	for _, try := range s.tries(r.dag, r.id, fmt.Sprintf("%s/%d", ti.TaskID, ti.MapIndex)) {
		if strings.Contains(try.Ostro.Reason, parentKilled) {
			n++
		}
	}
	s.orphans += n
	return n
}

// printed counts the lines of an instance's last attempt in its log, and wants each once and in order.
func (s *soaking) printed(r soakRun, ti soakInstance) (n int) {
	folder := filepath.Join(s.home, "logs", "dag_id="+r.dag, "run_id="+r.id, "task_id="+ti.TaskID)
	if ti.MapIndex >= 0 {
		folder = filepath.Join(folder, fmt.Sprintf("map_index=%d", ti.MapIndex))
	}
	path := filepath.Join(folder, fmt.Sprintf("attempt=%d.log", ti.TryNumber))
	if _, err := os.Stat(path); err != nil {
		return 0
	}
	for _, m := range logMessages(s.t, path) {
		if !strings.HasPrefix(m, "line ") || !strings.HasSuffix(m, " of "+ti.Ostro.AttemptID) {
			continue
		}
		if want := fmt.Sprintf("line %d of %s", n, ti.Ostro.AttemptID); m != want {
			s.t.Errorf("%s: %q stands where %q should", path, m, want)
		}
		n++
	}
	return n
}

func (s *soaking) returned(r soakRun, ti soakInstance) string {
	var x struct {
		Value json.RawMessage `json:"value"`
	}
	path := fmt.Sprintf("/api/v2/dags/%s/dagRuns/%s/taskInstances/%s/xcomEntries/return_value?stringify=false&map_index=%d", r.dag, r.id, ti.TaskID, ti.MapIndex)
	switch {
	case strings.HasSuffix(ti.TaskID, "_person"): // the answer has its time
		return ""
	case strings.HasSuffix(ti.TaskID, "_later"): // one that comes late need not defer, and returns something else
		return ""
	case s.call("GET", path, nil, &x) != nil:
		return ""
	}
	return string(x.Value)
}

// byTheRules compares an undisturbed run with what its DAG's rules say.
func (s *soaking) byTheRules(d randomDAG, o outcome) {
	s.t.Helper()
	odd := map[string]string{}
	for name, e := range o.Tasks {
		if e.State != "success" {
			id, _, _ := strings.Cut(name, "[")
			odd[id] = e.State
		}
	}
	if diff := cmp.Diff(d.odd, odd); diff != "" {
		s.t.Errorf("%s: the tasks that do not succeed (-by the rules +undisturbed):\n%s", d.id, diff)
	}
}

// check looks at everything that was under fire.
func (s *soaking) check() {
	s.t.Helper()
	for _, r := range s.runs {
		s.checkRun(r)
	}
	if s.orphans > s.done["keeper"] {
		s.t.Errorf("%d tries ended with their keeper, of which only %d were killed", s.orphans, s.done["keeper"])
	}
	s.checkAttempts()
	s.checkAssets()
	s.checkPool()
	s.stopServer()
	if stdout, stderr, code := s.ostro("db", "check"); code != 0 {
		s.t.Errorf("ostro db check: exit code %d: %s%s", code, stdout, stderr)
	}
}

// checkRun compares a run's end with the undisturbed one's.
func (s *soaking) checkRun(r soakRun) {
	s.t.Helper()
	got := s.outcome(r)
	if r.dag == "shape" {
		if !isShape(got) {
			s.t.Errorf("%s is none of the shapes that its DAG had: %+v", r.id, got)
		}
		return
	}
	if diff := cmp.Diff(s.want[r.dag], got); diff != "" {
		s.t.Errorf("%s %s (-undisturbed +under fire):\n%s", r.dag, r.id, diff)
		s.explain(r, got)
	}
}

// explain says what the tries were of the instances that ended otherwise.
func (s *soaking) explain(r soakRun, got outcome) {
	for _, ti := range s.instances(r) {
		if s.want[r.dag].Tasks[ti.name()] != got.Tasks[ti.name()] && ti.TryNumber > 0 {
			s.t.Logf("%s %s: %+v, attempt %s, %s", r.id, ti.name(), s.tries(r.dag, r.id, fmt.Sprintf("%s/%d", ti.TaskID, ti.MapIndex)), ti.Ostro.AttemptID, ti.Ostro.Reason)
		}
	}
}

// isShape says whether a run has succeeded with all the tasks of one of the contents of its file, and no other.
func isShape(o outcome) bool {
	n := len(o.Tasks)
	for i := range n {
		e, ok := o.Tasks[fmt.Sprintf("n%d_%d[-1]", n, i)]
		if !ok || e != (taskEnd{State: "success", Left: -1, Lines: 5, Value: fmt.Sprint(i + 1)}) {
			return false
		}
	}
	return o.State == "success" && n >= 2
}

// began lists the attempts of the ledger, each as often as it began.
func (s *soaking) began() map[string]int {
	text, err := os.ReadFile(s.ledger)
	if err != nil {
		s.t.Error(err)
	}
	seen := map[string]int{}
	for line := range strings.Lines(string(text)) {
		seen[strings.TrimSpace(line)]++
	}
	return seen
}

func (s *soaking) checkAttempts() {
	s.t.Helper()
	began := s.began()
	for _, attempt := range slices.Sorted(maps.Keys(began)) {
		if began[attempt] != 1 {
			s.t.Errorf("attempt %s began %d times", attempt, began[attempt])
		}
	}
}

// checkAssets: each success of a producer is one event, and each event was read by one run.
func (s *soaking) checkAssets() {
	s.t.Helper()
	made := 0
	for _, r := range s.runs {
		for _, ti := range s.instances(r) {
			if strings.HasSuffix(ti.TaskID, "_makes") && ti.State == "success" {
				made++
			}
		}
	}
	var events struct {
		Total int `json:"total_entries"`
	}
	if err := s.call("GET", "/api/v2/assets/events?limit=1", nil, &events); err != nil {
		s.t.Error(err)
	}
	if events.Total != made {
		s.t.Errorf("%d tasks have updated the asset, which has %d events", made, events.Total)
	}
	s.eventually("runs that have read all events", 60*time.Second, func() bool { return s.consumed("consumer") == made })
}

// checkPool: what the pool lent has come back.
func (s *soaking) checkPool() {
	s.t.Helper()
	var pool struct {
		Slots    int `json:"slots"`
		Open     int `json:"open_slots"`
		Occupied int `json:"occupied_slots"`
	}
	if err := s.call("GET", "/api/v2/pools/narrow", nil, &pool); err != nil {
		s.t.Error(err)
	}
	if pool.Slots != 2 || pool.Open != 2 || pool.Occupied != 0 {
		s.t.Errorf("the pool at the end: %+v", pool)
	}
}
