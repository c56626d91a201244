package scripted_test

import (
	"sync"
	"testing"

	"ostro.dev/ostro/internal/executor"
	"ostro.dev/ostro/internal/executor/executortest"
	"ostro.dev/ostro/internal/executor/scripted"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	executortest.Exercise(t, func(t *testing.T) executortest.Harness {
		var mu sync.Mutex
		plays := map[string]scripted.Behaviour{}
		e := scripted.New("scripted", func(a executor.Attempt) scripted.Behaviour {
			mu.Lock()
			defer mu.Unlock()
			return plays[a.ID]
		})
		t.Cleanup(e.Close)
		return executortest.Harness{
			Executor: e,
			Attempt: func(id string, b executortest.Behaviour) executor.Attempt {
				mu.Lock()
				defer mu.Unlock()
				plays[id] = scripted.Behaviour{For: b.For, Exit: b.Exit}
				return executor.Attempt{ID: id}
			},
			KillWorker: e.Restart,
		}
	})
}
