package worker

import (
	"errors"
	"testing"

	"ostro.dev/ostro/internal/executor"
	"ostro.dev/ostro/internal/workerapi"
)

// The former server's order may be read before the newer one attaches and be carried out after: the newer one was not told
// of the attempt and has replaced it.
func TestAnOrderThatANewerServerHasOvertakenIsNotCarriedOut(t *testing.T) {
	former, newer := &workerapi.Peer{}, &workerapi.Peer{}
	w := &Worker{attempts: map[string]*attempt{}, server: newer}
	if err := w.launch(former, []executor.Attempt{{ID: "a"}}); !errors.Is(err, errNotAttached) {
		t.Errorf("got %v", err)
	}
	if len(w.attempts) != 0 {
		t.Errorf("%d attempts were started", len(w.attempts))
	}
}
