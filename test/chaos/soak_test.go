package chaos

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"ostro.dev/ostro/internal/store/storetest/pgserver"
)

// roundOfKills is how many kills one installation, with its DAGs, lives through.
const roundOfKills = 50

// Random DAGs of everything there is to schedule run while all processes are killed, stopped and continued at random.
// OSTRO_CHAOS_SOAK sets how often (make soak: 1000, half of them on each database), in rounds with other DAGs each;
// OSTRO_CHAOS_SEED replays the first.
func TestRandomDAGsEndAsTheyDoWithoutKills(t *testing.T) {
	soak(t, func(*testing.T) *pgserver.Server { return nil })
}

// The same with PostgreSQL, whose processes are killed too.
func TestRandomDAGsEndAsTheyDoWithoutKillsOnPostgreSQL(t *testing.T) {
	soak(t, func(t *testing.T) *pgserver.Server { return pgserver.New(t) })
}

func soak(t *testing.T, database func(*testing.T) *pgserver.Server) {
	kills := fromEnv("OSTRO_CHAOS_SOAK", 24)
	seed := uint64(fromEnv("OSTRO_CHAOS_SEED", int(time.Now().UnixNano()&0x7fffffff)))
	for ; kills > 0; kills, seed = kills-roundOfKills, seed+1 {
		n := min(kills, roundOfKills)
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			s := newSoaking(t, seed, database(t))
			s.undisturbed()
			s.disturb(n)
			s.check()
			t.Logf("%d kills and stops: %v; %d runs, %d attempts began", n, s.done, len(s.runs), len(s.began()))
		})
	}
}

// soaking is one installation under fire.
type soaking struct {
	*installation
	random *rand.Rand
	pg     *pgserver.Server // nil: SQLite
	ledger string
	dags   []randomDAG
	want   map[string]outcome // by DAG, from a run before the first kill
	shapes int                // the tasks that the DAG "shape" has now
	runs   []soakRun
	live   map[soakRun]bool
	done   map[string]int // kills by what was killed

	orphans int // tries that ended with their keeper
}

type soakRun struct{ dag, id string }

const shapesFirst = 2

func newSoaking(t *testing.T, seed uint64, pg *pgserver.Server) *soaking {
	s := &soaking{random: rand.New(rand.NewPCG(seed, 0)), pg: pg, want: map[string]outcome{}, live: map[soakRun]bool{}, done: map[string]int{}}
	s.dags = randomDAGs(s.random, 3)
	s.shapes = shapesFirst
	s.ledger = filepath.Join(t.TempDir(), "ledger")
	files := map[string]string{"soakparts.py": strings.ReplaceAll(soakParts, "LEDGER", s.ledger), "consumer.py": soakConsumer, "shape.py": shapeOf(s.shapes)}
	for _, d := range s.dags {
		files[d.id+".py"] = d.text
	}
	settings := configuration
	if pg != nil {
		settings += "database: " + pg.Database(t) + "\n"
	}
	s.installation = newInstallation(t, settings, files)
	if _, stderr, code := s.ostro("pools", "set", "narrow", "2"); code != 0 {
		t.Fatal(stderr)
	}
	s.eventually("the consumer is known", 60*time.Second, func() bool {
		return s.call("PATCH", "/api/v2/dags/consumer", map[string]any{"is_paused": false}, nil) == nil
	})
	t.Cleanup(func() {
		if !t.Failed() {
			return
		}
		for _, d := range s.dags {
			t.Logf("%s.py:\n%s", d.id, d.text[strings.Index(d.text, "with DAG"):])
		}
	})
	return s
}

// undisturbed runs each DAG once, and keeps how it ended.
func (s *soaking) undisturbed() {
	s.t.Helper()
	for _, d := range s.dags {
		s.begin(d.id)
	}
	s.finish(60 * time.Second)
	for i, d := range s.dags {
		s.want[d.id] = s.outcome(s.runs[i])
		s.byTheRules(d, s.want[d.id])
	}
	if s.t.Failed() {
		s.t.FailNow() // it is not about kills
	}
}

func (s *soaking) begin(dag string) {
	s.t.Helper()
	r := soakRun{dag, fmt.Sprintf("run-%d", len(s.runs))}
	s.trigger(dag, r.id)
	s.runs = append(s.runs, r)
	s.live[r] = true
}

// disturb keeps three runs going until it has killed so many times.
func (s *soaking) disturb(kills int) {
	s.t.Helper()
	for k := 0; k < kills; {
		for len(s.live) < 3 {
			if n := s.random.IntN(len(s.dags) + 1); n < len(s.dags) {
				s.begin(s.dags[n].id)
			} else {
				s.reshape()
				s.begin("shape")
			}
		}
		pause := time.NewTimer(time.Duration(50+s.random.IntN(900)) * time.Millisecond)
		<-pause.C
		if what := s.killSomething(); what != "" {
			s.done[what]++
			k++
		}
		s.look()
	}
	s.finish(5 * time.Minute)
}

// reshape gives the DAG "shape" other tasks.
func (s *soaking) reshape() {
	s.t.Helper()
	s.shapes = 2 + s.random.IntN(4)
	path := filepath.Join(s.home, "dags", "shape.py")
	if err := os.WriteFile(path+".new", []byte(shapeOf(s.shapes)), 0o644); err != nil {
		s.t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		s.t.Fatal(err)
	}
}

// look answers whom the runs ask, and forgets the runs that have ended.
func (s *soaking) look() {
	var asked struct {
		Details []struct {
			TaskInstance struct {
				DAG  string `json:"dag_id"`
				Run  string `json:"dag_run_id"`
				Task string `json:"task_id"`
			} `json:"task_instance"`
		} `json:"hitl_details"`
	}
	if s.call("GET", "/api/v2/dags/~/dagRuns/~/hitlDetails?response_received=false&limit=100", nil, &asked) == nil {
		for _, d := range asked.Details {
			ti := d.TaskInstance
			path := fmt.Sprintf("/api/v2/dags/%s/dagRuns/%s/taskInstances/%s/-1/hitlDetails", ti.DAG, ti.Run, ti.Task)
			_ = s.call("PATCH", path, map[string]any{"chosen_options": []string{"Approve"}}, nil) // if not now, the next time
		}
	}
	for r := range s.live {
		if ended(s.state(r.dag, r.id)) {
			delete(s.live, r)
		}
	}
}

func ended(state string) bool { return state == "success" || state == "failed" }

// finish waits for the runs under way.
func (s *soaking) finish(limit time.Duration) {
	s.t.Helper()
	deadline := time.Now().Add(limit)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for s.look(); len(s.live) > 0; s.look() {
		if time.Now().After(deadline) {
			for r := range s.live {
				s.t.Errorf("%s %s has not ended within %s: %s", r.dag, r.id, limit, s.describe(r))
			}
			s.t.FailNow()
		}
		<-tick.C
	}
}

// describe says which task instances of a run have not ended, and why.
func (s *soaking) describe(r soakRun) string {
	var open []string
	for _, ti := range s.instances(r) {
		switch ti.State {
		case "success", "failed", "skipped", "upstream_failed":
		default:
			open = append(open, ti.name()+" "+ti.State+" try "+strconv.Itoa(ti.TryNumber)+" "+ti.Ostro.Waiting)
		}
	}
	return strings.Join(open, "; ")
}
