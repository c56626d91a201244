package local

import (
	"context"
	"errors"
	"fmt"
	"time"

	"ostro.dev/ostro/protocol"
)

// A worker of a build that speaks another protocol cannot be told anything, and nothing can be learnt from it. Its tasks go
// on and their results wait in the spool, which its successor reads. Nobody gives it new ones; once it has none it is ended
// with a signal, which every build heeds, and a worker of this build takes its place.

// foreignPause is how often a worker that speaks another protocol is looked at.
const foreignPause = time.Second

// isForeign reports whether a worker has refused a server because of the protocol.
func isForeign(err error) bool {
	var refused *protocol.Error
	return errors.As(err, &refused) && refused.Code == protocol.CodeNotSupported
}

// outlast waits for a worker that speaks another protocol to have nothing to do any more, and ends it then. It is called
// again as long as that worker is there.
func (e *Executor) outlast(ctx context.Context, refusal error) error {
	var running []string
	if e.o.Running != nil {
		running = e.o.Running()
	}
	if e.o.Running != nil && e.o.End != nil && len(running) == 0 {
		e.log.Info("the worker speaks another protocol and has nothing to do: it is replaced", "because", refusal)
		if _, err := e.o.End(ctx, 0); err != nil {
			return fmt.Errorf("end a worker that speaks another protocol: %w", err)
		}
		return nil
	}
	words := e.foreignWords(len(running))
	e.mu.Lock()
	said := e.foreign != ""
	e.foreign = words
	e.mu.Unlock()
	if !said {
		e.log.Error(words, "because", refusal)
	}
	t := time.NewTimer(foreignPause)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
	return nil
}

// foreignWords says what is the matter, and what to do.
func (e *Executor) foreignWords(running int) string {
	which, kill := "the worker", ""
	if e.o.Process != nil {
		if pid, _, known := e.o.Process(); known {
			which = fmt.Sprintf("the worker (process %d)", pid)
			kill = fmt.Sprintf("; `kill %d` ends it at once, and a new worker runs its tasks again", pid)
		}
	}
	what := "when it has none any more"
	if running > 0 {
		what = fmt.Sprintf("when it has none any more (now: %d)", running)
	}
	return fmt.Sprintf("%s is of a version that this server cannot talk to: the tasks it runs go on and their results are kept, new ones wait; "+
		"it is replaced %s%s", which, what, kill)
}
