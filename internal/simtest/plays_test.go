package simtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ostro.dev/ostro/internal/core/dag"
	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/scheduler"
	"ostro.dev/ostro/internal/store"
)

// A play is one simulation: DAGs, what their tasks do, what people do meanwhile, and how it must end.
type play struct {
	name    string
	dags    []*dag.DAG
	stories map[string]story
	// begin are the DAGs that a run "r" is triggered of.
	begin []string
	// during is done once the runs exist. It must bear that servers die meanwhile.
	during func(s *stage)
	// want is the end of every run, by DAG: the state, and its instances in order.
	want map[string]string
	// runs is how many runs a DAG gets; one where it says nothing.
	runs map[string]int
	// loose leaves the reference out, and the number of tries: people change what happens.
	loose bool
	// again: people clear tasks meanwhile, so that they may be tried more often.
	again bool
	// pools are the most processes that may run beside each other in a pool.
	pools map[string]int
}

// A faultPlan says what goes wrong where: at a point of a commit, or with a message. Nothing is the zero value.
type faultPlan struct {
	commit  func(n int, point string) string // "", refused, full, dead
	message func(n int, what string) string
}

// What may happen at a point of a commit.
const (
	refused = "refused" // the commit fails; after it is durable, its answer is lost
	full    = "full"    // there is no room for a moment
	dead    = "dead"    // the server dies right here
)

var errInjectedHere = errors.New("injected")

// perform plays in a bubble and checks everything. It returns how many commit points and messages there were.
func (p *play) perform(t *testing.T, f faultPlan) (points, messages int) {
	t.Helper()
	s := &stage{stories: p.stories}
	b := newBubble(t, s.script)
	defer b.end()
	s.b = b
	b.dags = p.dags
	b.publish(p.dags...)
	b.onCommit = func(n int, point string) error {
		if n > 5000 {
			return nil
		}
		points = n
		fate := ""
		if f.commit != nil {
			fate = f.commit(n, point)
		}
		switch fate {
		case refused:
			return fmt.Errorf("%w at %s", errInjectedHere, point)
		case full:
			if point != store.FaultCommitted {
				return fmt.Errorf("%w: injected", store.ErrUnavailable)
			}
		case dead:
			b.die()
			return errDead
		}
		return nil
	}
	b.line.watch(func(n int, what string) string {
		messages = n
		if f.message == nil {
			return passed
		}
		return f.message(n, what)
	})
	for _, id := range p.begin {
		b.trigger(id, "r")
	}
	if p.during != nil {
		p.during(s)
	}
	b.until("all runs to end", 10*time.Minute, func() bool { return p.over(b) })
	b.until("nothing to be open", 10*time.Minute, b.nothingOpen)
	p.check(b, s)
	return points, messages
}

func (p *play) over(b *bubble) bool {
	for id := range p.want {
		rs := b.runs(id)
		if len(rs) < max(1, p.runs[id]) || slices.ContainsFunc(rs, func(r run.DAGRun) bool { return !r.State.IsFinished() }) {
			return false
		}
	}
	return true
}

func (b *bubble) nothingOpen() bool {
	open, err := b.db.OpenAttempts(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	owed, err := b.db.OwedCallbacks(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	waits, err := b.db.Waits(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	return len(open)+len(owed)+len(waits)+b.ex.Held() == 0
}

func (p *play) check(b *bubble, s *stage) {
	b.t.Helper()
	for id, n := range b.ex.Begun() {
		if n != 1 {
			b.t.Errorf("attempt %s began %d times", id, n)
		}
	}
	for id, want := range p.want {
		rs := b.runs(id)
		if n := max(1, p.runs[id]); len(rs) != n {
			b.t.Errorf("%d runs of %s, want %d", len(rs), id, n)
		}
		for _, r := range rs {
			if got := ending(r, b.instances(id, r.RunID)); want != "" && got != want {
				b.t.Errorf("%s ends\n%s\nwant\n%s", id, got, want)
			}
			p.checkRun(b, r)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for pool, most := range p.pools {
		if s.most[pool] > most {
			b.t.Errorf("%d processes ran beside each other in pool %s, which has %d slots", s.most[pool], pool, most)
		}
	}
}

func (p *play) checkRun(b *bubble, r run.DAGRun) {
	b.t.Helper()
	var d *dag.DAG
	for _, o := range p.dags {
		if o.ID == r.DAGID {
			d = o
		}
	}
	ref := reference{d: d, story: p.stories[d.ID], seen: map[string]map[int]run.TaskState{}}
	for _, ti := range b.instances(r.DAGID, r.RunID) {
		if ref.seen[ti.TaskID] == nil {
			ref.seen[ti.TaskID] = map[int]run.TaskState{}
		}
		ref.seen[ti.TaskID][ti.MapIndex] = ti.State
		p.checkTries(b, d.Task(ti.TaskID), ti)
	}
	if p.loose {
		return
	}
	if wrong := ref.check(r.State); len(wrong) > 0 {
		b.t.Errorf("run of %s against the rules:\n%s\n%s", d.ID, strings.Join(wrong, "\n"), b.picture())
	}
}

// checkTries says whether an instance's attempts followed one another, and as often as its story says.
func (p *play) checkTries(b *bubble, t *dag.Task, ti run.TaskInstance) {
	b.t.Helper()
	tries := 0
	as := b.attempts(ti.Key)
	for i, a := range as {
		if i > 0 && (as[i-1].EndedAt == nil || a.QueuedAt.Before(*as[i-1].EndedAt)) {
			b.t.Errorf("%s/%s: attempt %d was queued before attempt %d had ended", ti.DAGID, name(ti.Key), i+1, i)
		}
		if !a.Infra && a.State != run.Deferred && a.State != run.UpForReschedule && a.State != run.AwaitingInput {
			tries++
		}
	}
	if p.loose || p.again || t == nil || len(as) == 0 || ti.State == run.UpstreamFailed {
		return
	}
	if want := p.stories[ti.DAGID][ti.TaskID].tries(t.Retries); tries != want {
		b.t.Errorf("%s/%s was tried %d times, want %d", ti.DAGID, name(ti.Key), tries, want)
	}
}

// ending writes how a run ended.
func ending(r run.DAGRun, tis []run.TaskInstance) string {
	var all []string
	for _, ti := range tis {
		all = append(all, name(ti.Key)+"="+string(ti.State))
	}
	slices.Sort(all)
	return string(r.State) + ": " + strings.Join(all, " ")
}

// insist repeats a command until a server has obeyed it.
func (b *bubble) insist(what string, do func(context.Context) error) {
	b.t.Helper()
	b.until(what, time.Minute, func() bool {
		ctx, cancel := context.WithTimeout(b.t.Context(), 5*time.Second)
		defer cancel()
		return do(ctx) == nil
	})
}

func (b *bubble) state(dagID, task string) run.TaskState {
	for _, ti := range b.instances(dagID, "r") {
		if ti.TaskID == task {
			return ti.State
		}
	}
	return ""
}

// plays is the family: every rule in a DAG as small as it can be shown.
func plays() []*play {
	return slices.Concat(playsOfRules(), playsOfTime(), playsOfPeople())
}

// TestEveryPlayEndsRightWhateverGoesWrongAtWhicheverPoint plays the family with one fault each: at every point of every commit it is
// refused, there is no room, the server dies; every message between server and worker is lost with the connection, arrives twice,
// late, the server dies over it, the worker dies over it. A plain run takes some of the places, OSTRO_TEST_SIM=all every one.
func TestEveryPlayEndsRightWhateverGoesWrongAtWhicheverPoint(t *testing.T) {
	for _, p := range plays() {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			points, messages := 0, 0
			synctest.Test(t, func(t *testing.T) { points, messages = p.perform(t, faultPlan{}) })
			if points < 9 || messages < 4 {
				t.Fatalf("%d commit points and %d messages in a play without a fault", points, messages)
			}
			for _, fate := range []string{refused, full, dead} {
				for i := range chosen(points, 2) {
					at := i + 1
					t.Run(fmt.Sprintf("%s at point %d", fate, at), func(t *testing.T) {
						synctest.Test(t, func(t *testing.T) { p.perform(t, faultPlan{commit: once[string](at, fate, "")}) })
					})
				}
			}
			for _, fate := range messageFaults {
				for i := range chosen(messages, 2) {
					at := i + 1
					t.Run(fmt.Sprintf("message %d is %s", at, fate), func(t *testing.T) {
						synctest.Test(t, func(t *testing.T) { p.perform(t, faultPlan{message: once[string](at, fate, passed)}) })
					})
				}
			}
		})
	}
}

// once is a fate for the one place with this number.
func once[T any](at int, fate, otherwise T) func(int, string) T {
	return func(n int, _ string) T {
		if n == at {
			return fate
		}
		return otherwise
	}
}

func clearTasks(b *bubble, dagID string, ids ...string) {
	b.t.Helper()
	var sel []scheduler.TaskSel
	for _, id := range ids {
		sel = append(sel, scheduler.TaskSel{TaskID: id})
	}
	b.insist("the clearing", func(ctx context.Context) error {
		_, err := b.sched.Clear(ctx, "user:sim", scheduler.ClearRequest{DAGID: dagID, RunID: "r", TaskIDs: sel, IncludeDownstream: true, ResetDagRuns: true})
		return err
	})
}

func markSuccess(b *bubble, dagID, taskID string) {
	b.t.Helper()
	b.insist("the mark", func(ctx context.Context) error {
		_, err := b.sched.MarkTasks(ctx, "user:sim", scheduler.MarkRequest{DAGID: dagID, RunID: "r", Tasks: []scheduler.TaskSel{{TaskID: taskID}}, State: run.Success})
		return err
	})
}

// answer answers a question as soon as it is asked; who comes too late finds the default taken.
func answer(b *bubble, dagID, taskID string) {
	b.t.Helper()
	b.until("the question", 5*time.Minute, func() bool { return b.state(dagID, taskID).IsSuspended() || b.state(dagID, taskID).IsFinished() })
	b.insist("the answer", func(ctx context.Context) error {
		_, err := b.sched.Answer(ctx, "user:sim", scheduler.AnswerRequest{
			Key: run.Key{DAGID: dagID, RunID: "r", TaskID: taskID, MapIndex: -1}, Options: []string{"yes"}, By: run.Person{ID: "sim", Name: "sim"}})
		if errors.Is(err, scheduler.ErrConflict) || errors.Is(err, scheduler.ErrNotFound) {
			return nil
		}
		return err
	})
}
