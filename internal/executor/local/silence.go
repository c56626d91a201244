package local

import (
	"context"
	"fmt"
	"time"

	"ostro.dev/ostro/internal/workerapi"
)

// Problem says in words why attempts wait: none can be handed to the worker now, or the worker waits for its disk. It is
// empty when all is well, or soon will be.
func (e *Executor) Problem() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.silent != "":
		return e.silent
	case e.foreign != "":
		return e.foreign
	case e.peer == nil && e.spawnErr != nil:
		return "no worker can be started: " + e.spawnErr.Error()
	}
	return e.trouble
}

// troubled takes in what the worker says keeps its tasks waiting; empty when nothing does.
func (e *Executor) troubled(words string) {
	e.mu.Lock()
	was := e.trouble
	e.trouble = words
	e.mu.Unlock()
	switch {
	case words != "" && was == "":
		e.log.Error(words)
	case words == "" && was != "":
		e.log.Info("the worker can write again")
	}
}

// ask sends the worker a request and waits for the answer, however long it takes: a worker that is only stopped answers
// when it goes on, and what it runs is not lost. When it is silent for long, people are told what is the matter.
func (e *Executor) ask(ctx context.Context, peer *workerapi.Peer, request, answer any) error {
	answered := false // guarded by e.mu, as a timer that has fired cannot be stopped
	timer := time.AfterFunc(e.o.Silence, func() {
		words := e.silence()
		e.mu.Lock()
		defer e.mu.Unlock()
		if !answered {
			e.silent = words
			e.log.Error(words)
		}
	})
	err := peer.Call(ctx, request, answer)
	timer.Stop()
	e.mu.Lock()
	defer e.mu.Unlock()
	answered = true
	if e.silent != "" {
		e.silent = ""
		if err == nil {
			e.log.Info("the worker answers again")
		}
	}
	return err
}

// silence says what is the matter with a worker that does not answer, and what to do.
func (e *Executor) silence() string {
	const kept = "the tasks it runs are kept, new ones wait"
	pid, stopped, known := 0, false, false
	if e.o.Process != nil {
		pid, stopped, known = e.o.Process()
	}
	switch {
	case !known:
		return fmt.Sprintf("the worker accepts connections and has not answered for %v; %s", e.o.Silence, kept)
	case stopped:
		return fmt.Sprintf("the worker (process %d) is stopped and has not answered for %v; %s; `kill -CONT %d` wakes it",
			pid, e.o.Silence, kept, pid)
	}
	return fmt.Sprintf("the worker (process %d) has not answered for %v; %s; if it stays silent, `kill -KILL %d` ends it with "+
		"its tasks, which a new worker runs again", pid, e.o.Silence, kept, pid)
}

// listen asks a connected worker from time to time whether it is still there.
func (e *Executor) listen(ctx context.Context, peer *workerapi.Peer) {
	tick := time.NewTicker(e.o.Silence)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			_ = e.ask(ctx, peer, workerapi.Ping{Type: "Ping"}, nil) // a worker that does not know the word is there, too
		case <-peer.Done():
			return
		case <-ctx.Done():
			return
		}
	}
}
