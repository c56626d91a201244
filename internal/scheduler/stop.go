package scheduler

import "context"

// Hold makes the scheduler start nothing new, for a clean stop: what runs may end and is recorded.
func (s *Scheduler) Hold(ctx context.Context) error {
	return s.call(ctx, message{actor: actorScheduler, fold: func(*batch) error {
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

// Open lists the ids of attempts that have not ended.
func (s *Scheduler) Open(ctx context.Context) ([]string, error) {
	var ids []string
	err := s.call(ctx, message{actor: actorScheduler, read: true, fold: func(*batch) error {
		for id := range s.st.attempts {
			ids = append(ids, id)
		}
		return nil
	}})
	return answered(&ids, err)
}
