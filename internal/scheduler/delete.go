package scheduler

import (
	"context"
	"fmt"
	"slices"

	"ostro.dev/ostro/internal/core/plan"
	"ostro.dev/ostro/internal/store"
)

// DeleteRun deletes a finished run and everything that belongs to it.
func (s *Scheduler) DeleteRun(ctx context.Context, actor, dagID, runID string) error {
	return s.call(ctx, message{actor: actor, alone: true, fold: func(b *batch) error {
		lr, err := s.find(b.ctx, plan.RunKey{DAGID: dagID, RunID: runID})
		if err != nil {
			return notFound(err)
		}
		if state := lr.run.Row().State; !ended(state) {
			return fmt.Errorf("DAG run %s is %s: cancel it before deleting it: %w", runID, state, ErrConflict)
		}
		for id, a := range s.st.attempts {
			if keyOf(a.row.Key) == lr.key {
				s.kill(id, "the DAG run is deleted")
				return fmt.Errorf("a process of DAG run %s is still ending; try again in a moment: %w", runID, ErrConflict)
			}
		}
		for id, o := range s.st.callbacks {
			if o.Callback.DAGID == dagID && o.Callback.RunID == runID {
				delete(s.st.callbacks, id)
			}
		}
		b.writes = append(b.writes, func(tx *store.Tx) error { return tx.DeleteRun(dagID, runID) })
		return nil
	}})
}

// DeleteDAG deletes a DAG with its versions, runs and all that belongs to them; the events stay. Every run must have
// ended. A DAG whose file is still there comes back with its next publication, without a past.
func (s *Scheduler) DeleteDAG(ctx context.Context, actor, dagID string) error {
	return s.call(ctx, message{actor: actor, alone: true, fold: func(b *batch) error {
		st := s.st
		if st.dags[dagID] == nil {
			return s.unknown(dagID)
		}
		live := 0
		for k, lr := range st.runs {
			if k.DAGID == dagID && !ended(lr.run.Row().State) {
				live++
			}
		}
		if live > 0 {
			return fmt.Errorf("%d of the DAG runs of %s have not ended: wait for them or cancel them first: %w", live, dagID, ErrConflict)
		}
		for id, a := range st.attempts {
			if a.row.DAGID == dagID {
				s.kill(id, "the DAG is deleted")
				return fmt.Errorf("a process of DAG %s is still ending; try again in a moment: %w", dagID, ErrConflict)
			}
		}
		for id, o := range st.callbacks {
			if o.Callback.DAGID == dagID {
				delete(st.callbacks, id)
			}
		}
		for k := range st.indexes { // its version numbers begin anew when it comes back
			if k.dagID == dagID {
				delete(st.indexes, k)
			}
		}
		delete(st.dags, dagID)
		delete(st.assets.queued, dagID)
		st.assets.consumers = slices.DeleteFunc(st.assets.consumers, func(id string) bool { return id == dagID })
		s.setWatchers(st)
		b.writes = append(b.writes, func(tx *store.Tx) error { return tx.DeleteDAG(dagID) })
		return nil
	}})
}
