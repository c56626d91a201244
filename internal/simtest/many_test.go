package simtest

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/executor"
	"ostro.dev/ostro/internal/executor/scripted"
	"ostro.dev/ostro/internal/scheduler"
	"ostro.dev/ostro/internal/store"
)

// TestTenThousandRunsQueuedAtOnceGoOneAfterTheOther triggers them from everywhere at once behind max_active_runs=1. A plain run is
// content with a thousand; that the scheduler's work for each does not grow, internal/scheduler tests with all ten.
func TestTenThousandRunsQueuedAtOnceGoOneAfterTheOther(t *testing.T) {
	t.Parallel()
	many := 1000
	if whole() {
		many = 10_000
	}
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		beside, most, begun := 0, 0, 0
		b := newBubble(t, func(executor.Attempt) scripted.Behaviour {
			return scripted.Behaviour{For: time.Second, Begun: func() {
				mu.Lock()
				defer mu.Unlock()
				begun++
				beside++
				most = max(most, beside)
			}, Gone: func() {
				mu.Lock()
				defer mu.Unlock()
				beside--
			}}
		})
		defer b.end()
		d := hand("many", task("one"))
		d.MaxActiveRuns = 1
		b.publish(d)
		var wg sync.WaitGroup
		for i := range many {
			wg.Go(func() {
				if _, err := b.sched.Trigger(t.Context(), "user:sim", scheduler.TriggerRequest{DAGID: "many", RunID: fmt.Sprintf("r%05d", i)}); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		b.until("all runs to end", 5*time.Hour, func() bool {
			b.pass(10 * time.Minute)
			_, n, err := b.db.Runs(t.Context(), store.RunFilter{DAGID: "many", States: []run.State{run.RunSuccess}, Limit: 1})
			if err != nil {
				t.Fatal(err)
			}
			return n == many
		})
		if most != 1 || begun != many {
			t.Errorf("%d processes began, %d beside each other", begun, most)
		}
	})
}
