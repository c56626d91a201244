package scheduler

import (
	"context"
	"fmt"

	"ostro.dev/ostro/internal/core/plan"
	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/executor"
	"ostro.dev/ostro/internal/store"
)

// recover looks at everything once after the state was read from the store at start.
func (s *Scheduler) recover(b *batch) error {
	for _, lr := range s.st.runs {
		b.decide(lr, plan.ClockSet{}) // since the last server stopped, the clock may have been set back
		if lr.run.Row().State == run.RunRunning {
			b.decide(lr, plan.Recovered{})
		}
	}
	s.sizeDefaultPool(b)
	return nil
}

// sizeDefaultPool gives a new installation's default_pool its configured size; from then on it is the pool's own.
func (s *Scheduler) sizeDefaultPool(b *batch) {
	now := s.st.pools[plan.DefaultPool]
	if len(s.st.dags) > 0 || now.Slots == s.cfg.DefaultPoolSlots {
		return
	}
	now.Slots = s.cfg.DefaultPoolSlots
	s.st.pools[plan.DefaultPool] = now
	b.writes = append(b.writes, func(tx *store.Tx) error {
		return tx.PutPool(store.Pool{Name: plan.DefaultPool, Description: "Default pool", Slots: now.Slots, IncludeDeferred: now.IncludeDeferred})
	})
}

// reconcile compares what the store says is open with what an executor says it has.
//
// An attempt of another incarnation that the executor does not list is surely dead: its worker is gone and took its
// processes with it. A queued attempt of this incarnation that it does not list was never handed over; if this process
// made the attempt it hands it over now, and otherwise (the plain token died with the former server) the attempt is lost
// too, which costs an infrastructure retry and never one of the author's.
func (s *Scheduler) reconcile(b *batch, name, instance string, known []executor.Known) {
	s.instances[name] = instance
	if s.execs[name] == nil {
		s.log.Error("an unknown executor reports", "executor", name)
		return
	}
	listed := make(map[string]bool, len(known))
	for _, k := range known {
		listed[k.AttemptID] = true
		a := s.st.attempts[k.AttemptID]
		switch {
		case a != nil:
			a.seen = true
			s.repeatKill(b, a)
		case k.Running:
			s.log.Warn("the executor runs an attempt that has ended for us: it is stopped", "executor", name, "attempt", k.AttemptID)
			b.after = append(b.after, func() {
				s.execs[name].add(order{kill: k.AttemptID, reason: "the attempt has been replaced"})
			})
		}
	}
	lost, again := 0, 0
	for id, a := range s.st.attempts {
		if a.row.Executor != name || listed[id] {
			continue
		}
		switch {
		case a.row.Instance != instance:
			lost++
			s.lose(b, a, "the worker that ran it is gone")
		case a.order != nil && !a.seen:
			again++
			b.after = append(b.after, func() { s.launch(b.ctx, a) })
		case a.order == nil && a.row.State == run.Queued:
			lost++
			s.lose(b, a, "the server stopped before it could hand it to the worker")
		case a.seen:
			lost++
			s.lose(b, a, "the worker does not know it any more")
		}
	}
	s.log.Info("executor connected", "executor", name, "instance", instance, "known", len(known), "lost", lost, "handed_over_again", again)
}

// repeatKill orders the end of an attempt again that the run has given up: the order may have been lost.
func (s *Scheduler) repeatKill(b *batch, a *openAttempt) {
	if a.aside() {
		return
	}
	lr := s.st.runs[keyOf(a.row.Key)]
	if lr != nil {
		ti, ok := lr.run.Instance(a.row.Key)
		if ok && ti.AttemptID == a.row.ID && (ti.State == run.Queued || ti.State == run.Running) {
			return
		}
	}
	id := a.row.ID
	b.after = append(b.after, func() { s.kill(id, "the task instance was changed by hand") })
}

// launch hands an attempt to its executor.
func (s *Scheduler) launch(ctx context.Context, a *openAttempt) {
	d := s.execs[a.row.Executor]
	if d == nil || a.order == nil {
		return
	}
	if err := s.fillAssetEvents(ctx, a); err != nil {
		s.log.Warn("an attempt cannot be handed over yet", "attempt", a.row.ID, "error", err) // see relaunch
		return
	}
	d.add(order{launch: a.order, instance: a.row.Instance})
}

// relaunch hands over again what no executor has confirmed for a while; launching twice does nothing.
func (s *Scheduler) relaunch(b *batch) {
	for _, a := range s.st.attempts {
		if a.seen || a.order == nil || b.now.Sub(a.row.QueuedAt) < 2*s.cfg.Interval || s.instances[a.row.Executor] != a.row.Instance {
			continue
		}
		s.log.Debug("an attempt is handed over again", "attempt", a.row.ID)
		s.launch(b.ctx, a)
	}
}

func describe(k run.Key) string {
	if k.MapIndex >= 0 {
		return fmt.Sprintf("%s[%d]", k.TaskID, k.MapIndex)
	}
	return k.TaskID
}
