package scheduler_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/executor"
	"ostro.dev/ostro/internal/executor/scripted"
	"ostro.dev/ostro/internal/scheduler"
	"ostro.dev/ostro/protocol"
)

// pythons keeps the triggerers that were started and defers the tasks.
type pythons struct {
	deferring
	mu2     sync.Mutex
	started []string
}

func (p *pythons) script(a executor.Attempt) scripted.Behaviour {
	if a.Startup.Kind == protocol.KindTriggerer {
		p.mu2.Lock()
		defer p.mu2.Unlock()
		p.started = append(p.started, a.ID)
		return scripted.Behaviour{For: time.Hour}
	}
	return p.deferring.script(a)
}

func (p *pythons) triggerer(w *world, n int) string {
	w.t.Helper()
	var id string
	w.wait("a triggerer", func() bool {
		p.mu2.Lock()
		defer p.mu2.Unlock()
		if len(p.started) >= n {
			id = p.started[n-1]
		}
		return id != ""
	})
	return id
}

func newPythons(tasks ...string) *pythons {
	p := &pythons{}
	p.first = map[string]scripted.Behaviour{}
	for _, id := range tasks {
		b := deferral("temporal.DateTimeTrigger", `{"x":1}`, 0)
		b.Result.Defer.Classpath = "my." + id
		p.first[id] = b
	}
	return p
}

// ask asks for work as a triggerer does, until want triggers are to be run.
func (w *world) ask(id string, want int) protocol.TriggererWork {
	w.t.Helper()
	var all protocol.TriggererWork
	ctx, cancel := context.WithTimeout(w.t.Context(), 10*time.Second)
	defer cancel()
	for token := ""; len(all.Add) < want; token = all.Token {
		work, err := w.s.TriggererWork(ctx, id, token)
		if err != nil {
			w.t.Fatal(err)
		}
		all.Token, all.Add = work.Token, append(all.Add, work.Add...)
	}
	return all
}

func (w *world) report(id string, r scheduler.TriggerReport) {
	w.t.Helper()
	if err := w.s.TriggerReported(w.t.Context(), id, r); err != nil {
		w.t.Fatal(err)
	}
}

func TestOneTriggererRunsManyTriggersAndItsEventsCountOnce(t *testing.T) {
	t.Parallel()
	p := newPythons("t00", "t01")
	d := chain("many", 2)
	d.Tasks[1].Upstream = nil
	w := newWorld(t, p.script, d)
	r := w.trigger("many")
	id := p.triggerer(w, 1)
	work := w.ask(id, 2)
	for _, order := range work.Add {
		report := scheduler.TriggerReport{WaitID: order.ID, Payload: json.RawMessage(`"go"`)}
		w.report(id, report)
		w.report(id, report) // told again: the answer was lost
		if order.Classpath != "my."+order.TaskID || string(order.Kwargs) != `{"x":1}` || order.File != "many.py" {
			t.Errorf("%+v", order)
		}
	}
	if r = w.ended(r); r.State != run.RunSuccess {
		t.Errorf("the run ended %s: %v", r.State, w.states(r))
	}
	if got := string(p.with("t01").NextKwargs); !strings.Contains(got, `"event":"go"`) {
		t.Errorf("resumed with %s", got)
	}
	if len(p.started) != 1 {
		t.Errorf("%d triggerers", len(p.started))
	}
	w.waiting(0)
}

func TestAServerRestartFindsTheTriggererItHadStarted(t *testing.T) {
	t.Parallel()
	p := newPythons("t00")
	w := newWorld(t, p.script, chain("adopted", 1))
	r := w.trigger("adopted")
	id := p.triggerer(w, 1)
	old := w.ask(id, 1)
	w.crash()
	w.start()
	work, err := w.s.TriggererWork(t.Context(), id, old.Token)
	if err != nil || !work.Full || len(work.Add) != 1 {
		t.Fatalf("what the same triggerer is told: %+v, %v", work, err)
	}
	w.report(id, scheduler.TriggerReport{WaitID: work.Add[0].ID, Error: "no such queue", Traceback: "…"})
	if r = w.ended(r); r.State != run.RunFailed || !strings.Contains(string(p.with("t00").NextKwargs), "no such queue") {
		t.Errorf("the run ended %s, resumed with %s", r.State, p.with("t00").NextKwargs)
	}
	if len(p.started) != 1 {
		t.Errorf("%d triggerers", len(p.started))
	}
}

func TestALostTriggererIsReplacedWithItsTriggers(t *testing.T) {
	t.Parallel()
	p := newPythons("t00")
	w := newWorld(t, p.script, chain("replaced", 1))
	r := w.trigger("replaced")
	first := p.triggerer(w, 1)
	w.ask(first, 1)
	w.ex.Restart() // the worker dies, and everything below it
	second := p.triggerer(w, 2)
	if _, err := w.s.TriggererWork(t.Context(), first, ""); !errors.Is(err, scheduler.ErrNotFound) {
		t.Errorf("the former one is told %v", err)
	}
	order := w.ask(second, 1).Add[0]
	w.report(second, scheduler.TriggerReport{WaitID: order.ID, State: run.Success})
	if r = w.ended(r); r.State != run.RunSuccess {
		t.Errorf("the run ended %s", r.State)
	}
	if as := w.attempts(r, "t00"); len(as) != 1 {
		t.Errorf("%d attempts: a trigger that ends its task needs no second", len(as))
	}
}

func TestATriggerThatBlocksGetsAProcessOfItsOwn(t *testing.T) {
	t.Parallel()
	p := newPythons("t00", "t01")
	d := chain("blocks", 2)
	d.Tasks[1].Upstream = nil
	w := newWorld(t, p.script, d)
	r := w.trigger("blocks")
	id := p.triggerer(w, 1)
	work := w.ask(id, 2)
	w.report(id, scheduler.TriggerReport{WaitID: work.Add[0].ID, Blocks: "it sleeps", Alone: true})
	own := w.ask(p.triggerer(w, 2), 1).Add
	if len(own) != 1 || own[0].ID != work.Add[0].ID {
		t.Errorf("the second process runs %+v", own)
	}
	why, err := w.s.WhyWaiting(t.Context(), r.DAGID, r.RunID)
	if err != nil || !strings.Contains(why[0].Reason+why[1].Reason, "it sleeps") {
		t.Errorf("%+v, %v", why, err)
	}
}
