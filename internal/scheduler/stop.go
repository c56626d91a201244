package scheduler

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/executor"
)

// Hold makes the scheduler start nothing new, for a clean stop: what runs may end and is recorded. It returns when everything
// that was reported before is folded, but does not wait for a database that cannot be written.
func (s *Scheduler) Hold(ctx context.Context) error {
	return s.call(ctx, message{actor: actorScheduler, read: true, fold: func(*batch) error {
		s.held = true
		return nil
	}})
}

// Idle waits until no attempt is open any more, or until ctx ends.
func (s *Scheduler) Idle(ctx context.Context) error {
	idle := make(chan struct{})
	err := s.call(ctx, message{actor: actorScheduler, fold: func(*batch) error {
		s.idlers = append(s.idlers, func() { close(idle) })
		return nil
	}})
	if err != nil {
		return err
	}
	s.kick()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-s.done:
		return ErrStopped
	}
}

// tellIdle answers those who wait for the last attempt to end.
func (s *Scheduler) tellIdle() {
	if len(s.st.attempts) > 0 {
		return
	}
	for _, f := range s.idlers {
		f()
	}
	s.idlers = nil
}

// Unfinished is an attempt that has not ended.
type Unfinished struct {
	run.Attempt
	// Callback is the kind of callback this is a try of; empty for a try of the task itself.
	Callback string
}

// Unfinished lists the attempts of tasks and callbacks that have not ended, the oldest first. Triggerers are not among
// them: the next server starts its own.
func (s *Scheduler) Unfinished(ctx context.Context) ([]Unfinished, error) {
	var out []Unfinished
	err := s.call(ctx, message{actor: actorScheduler, read: true, fold: func(*batch) error {
		out = nil
		for _, a := range s.st.attempts {
			if a.group != nil {
				continue
			}
			u := Unfinished{Attempt: a.row}
			if o := s.st.callbacks[a.callback]; o != nil {
				u.Callback = o.Callback.Kind
			}
			out = append(out, u)
		}
		slices.SortFunc(out, func(a, b Unfinished) int {
			return cmp.Or(a.QueuedAt.Compare(b.QueuedAt), cmp.Compare(a.ID, b.ID))
		})
		return nil
	}})
	return answered(&out, err)
}

// Told waits until every order given so far has been passed on to its executor, or until ctx ends.
func (s *Scheduler) Told(ctx context.Context) error {
	for _, d := range s.execs {
		told := make(chan struct{})
		d.add(order{told: told})
		select {
		case <-told:
		case <-ctx.Done():
			return fmt.Errorf("pass orders on to executor %s: %w", d.ex.Name(), ctx.Err())
		case <-s.done:
			return ErrStopped
		}
	}
	return nil
}

// retire ends incarnations of an older build that have nothing to do: a newer one takes their place. Nothing is started
// on them from then on, so no attempt can be caught between the two. A triggerer ends with its worker and is started anew.
func (s *Scheduler) retire() {
	if s.held {
		return
	}
	for _, a := range s.st.attempts {
		if a.group == nil {
			return
		}
	}
	for name, d := range s.execs {
		if r, ok := d.ex.(executor.Retirer); ok && s.instances[name] != "" && r.Retire() {
			s.instances[name] = ""
		}
	}
}
