package scheduler

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"

	"ostro.dev/ostro/internal/core/plan"
	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/executor"
	"ostro.dev/ostro/internal/store"
	"ostro.dev/ostro/protocol"
)

// A callback that no task process can run, or has run, is owed: it stays in the store until a process of its own has run
// it. Every try is an attempt to the executor, without a row of its own. Its id and its token follow from the callback, the
// number of the try and the installation's key, so that a server that starts again finds the process it had started.

// callbackAttempt is the id of one try of a callback.
func (s *Scheduler) callbackAttempt(id int64, try int) string {
	sum := s.mac(fmt.Sprintf("callback %d try %d", id, try))
	var u uuid.UUID
	copy(u[:], sum)
	u[6] = u[6]&0x0f | 0x80 // version 8: custom
	u[8] = u[8]&0x3f | 0x80
	return u.String()
}

func (s *Scheduler) callbackToken(attemptID string) string {
	return base64.RawURLEncoding.EncodeToString(s.mac("token " + attemptID))
}

func (s *Scheduler) mac(text string) []byte {
	m := hmac.New(sha256.New, s.cfg.TokenKey)
	m.Write([]byte(text))
	return m.Sum(nil)
}

// CallbackAttempt returns the attempt a callback process's token is good for; false when it is not, or not any more. The
// task API asks it for tokens the store does not know.
func (s *Scheduler) CallbackAttempt(attemptID, token string) (run.Attempt, bool) {
	v, ok := s.callbackRows.Load(attemptID)
	if !ok || !hmac.Equal([]byte(token), []byte(s.callbackToken(attemptID))) {
		return run.Attempt{}, false
	}
	return v.(run.Attempt), true
}

// adoptCallback assumes that the last try of a callback is still running; Connected finds out.
func (s *Scheduler) adoptCallback(st *state, o *owedCallback) {
	id := s.callbackAttempt(o.ID, o.Tries)
	a := &openAttempt{callback: o.ID, row: run.Attempt{Key: callbackKey(o.Callback), ID: id, Executor: s.cfg.Limits.DefaultExecutor, TryNumber: o.Tries}}
	if s.st != nil {
		old := s.formerAttempt(id)
		if old == nil {
			return // this process knows better: the try has ended
		}
		a = old
	}
	o.attempt = id
	st.attempts[id] = a
	s.callbackRows.Store(id, a.row)
}

func callbackKey(c plan.Callback) run.Key {
	if c.Task != nil {
		return *c.Task
	}
	return run.Key{DAGID: c.DAGID, RunID: c.RunID, MapIndex: -1}
}

// startCallbacks starts owed callbacks, oldest first, a few at a time.
func (s *Scheduler) startCallbacks(b *batch) {
	st := s.st
	if len(st.callbacks) == 0 || s.held {
		return
	}
	name := s.cfg.Limits.DefaultExecutor
	if s.limits(st).Executors[name] == 0 {
		return
	}
	free := s.cfg.CallbackSlots
	for _, o := range st.callbacks {
		if o.attempt != "" {
			free--
		}
	}
	for _, id := range slices.Sorted(maps.Keys(st.callbacks)) {
		o := st.callbacks[id]
		if o.attempt != "" || o.given {
			continue
		}
		if free <= 0 {
			return
		}
		if s.startCallback(b, o, name) {
			free--
		}
	}
}

// startCallback makes one try of a callback; false when it cannot be made.
func (s *Scheduler) startCallback(b *batch, o *owedCallback, executorName string) bool {
	lr, ti, err := s.callbackSubject(b.ctx, o.Callback)
	if errors.Is(err, store.ErrNotFound) || errors.Is(err, errNoTask) {
		s.closeCallback(b, o, "what it is about does not exist any more")
		return false
	}
	if err != nil {
		s.log.Error("a callback cannot be started yet", "callback", o.ID, "error", err)
		return false
	}
	o.Tries++
	id := s.callbackAttempt(o.ID, o.Tries)
	a := &openAttempt{callback: o.ID, token: s.callbackToken(id), row: run.Attempt{
		Key: callbackKey(o.Callback), ID: id, TryNumber: o.Tries, State: run.Queued, Executor: executorName,
		Instance: s.instances[executorName], QueuedAt: b.now,
	}}
	a.order = s.order(lr, ti, a)
	a.order.Startup.Kind = protocol.KindCallback
	a.order.Startup.Callback = &protocol.CallbackRequest{Kind: o.Callback.Kind, DAG: o.Callback.Task == nil, Reason: o.Callback.Reason}
	a.order.LogPath = callbackLogPath(o.Callback, o.ID, ti.TryNumber)
	o.attempt = id
	s.st.attempts[id] = a
	s.callbackRows.Store(id, a.row)
	b.writes = append(b.writes, func(tx *store.Tx) error { return tx.CallbackTried(o.ID) })
	b.after = append(b.after, func() { s.launch(b.ctx, a) })
	return true
}

// callbackFinished folds the end of a try: it has run (well or not), or its process was lost and it is tried again.
func (s *Scheduler) callbackFinished(b *batch, a *openAttempt, r executor.Result) {
	s.callbackRows.Delete(a.row.ID)
	s.pushes.take(a.row.ID) // nothing unfolds by what a callback pushes
	o := s.st.callbacks[a.callback]
	if o == nil || o.attempt != a.row.ID {
		return
	}
	o.attempt = ""
	died := r.Infra || (!r.Reported && r.State != run.Success)
	switch {
	case died && o.Tries >= callbackTries:
		s.closeCallback(b, o, fmt.Sprintf("given up after %d tries, none of which finished: %s", o.Tries, r.Reason))
	case died:
		s.log.Warn("a callback did not finish and is tried again", "callback", o.Callback.Kind, "dag", o.Callback.DAGID,
			"run", o.Callback.RunID, "try", o.Tries, "reason", r.Reason)
	case r.State == run.Success:
		s.closeCallback(b, o, "")
	default:
		s.closeCallback(b, o, cmp.Or(r.Reason, "it raised an error"))
	}
}

func (s *Scheduler) closeCallback(b *batch, o *owedCallback, failure string) {
	if failure != "" {
		s.log.Error("a callback failed", "callback", o.Callback.Kind, "dag", o.Callback.DAGID, "run", o.Callback.RunID, "error", failure)
	}
	o.given = true
	id := o.ID
	b.writes = append(b.writes, func(tx *store.Tx) error { return tx.CallbackDone(id, failure) })
	b.after = append(b.after, func() { delete(s.st.callbacks, id) })
}

var errNoTask = errors.New("no task instance")

// callbackSubject finds the run a callback belongs to and the task instance its context shows: the attempt's for a task's
// callback; for a DAG's the one that decided the outcome.
func (s *Scheduler) callbackSubject(ctx context.Context, c plan.Callback) (*liveRun, run.TaskInstance, error) {
	lr, err := s.find(ctx, plan.RunKey{DAGID: c.DAGID, RunID: c.RunID})
	if err != nil {
		return nil, run.TaskInstance{}, err
	}
	if c.Task == nil {
		ti, ok := deciding(lr.run.Instances())
		if !ok {
			ti = run.TaskInstance{Key: callbackKey(c)}
		}
		return lr, ti, nil
	}
	ti, ok := lr.run.Instance(*c.Task)
	if !ok {
		return nil, ti, errNoTask
	}
	if c.AttemptID != "" && c.AttemptID != ti.AttemptID {
		if a, err := s.store.Attempt(ctx, c.AttemptID); err == nil {
			ti.TryNumber, ti.AttemptID, ti.State = a.TryNumber, a.ID, a.State
			ti.StartDate, ti.EndDate = a.StartedAt, a.EndedAt
		}
	}
	return lr, ti, nil
}

// deciding is the instance a DAG-level callback shows: the first that failed, else the last that ended.
func deciding(tis []run.TaskInstance) (run.TaskInstance, bool) {
	var last run.TaskInstance
	var at time.Time
	found := false
	for _, ti := range tis {
		if ti.State == run.Failed {
			return ti, true
		}
		if ti.EndDate != nil && !ti.EndDate.Before(at) {
			last, at, found = ti, *ti.EndDate, true
		}
	}
	return last, found
}

// find returns a run: the live one, or one read from the store that is not entered into memory.
func (s *Scheduler) find(ctx context.Context, k plan.RunKey) (*liveRun, error) {
	if lr := s.st.runs[k]; lr != nil {
		return lr, nil
	}
	r, err := s.store.Run(ctx, k.DAGID, k.RunID)
	if err != nil {
		return nil, fmt.Errorf("read DAG run %s of %s: %w", k.RunID, k.DAGID, err)
	}
	tis, _, err := s.store.TaskInstances(ctx, store.TIFilter{DAGID: k.DAGID, RunID: k.RunID})
	if err != nil {
		return nil, fmt.Errorf("read the task instances of DAG run %s: %w", k.RunID, err)
	}
	return s.revive(ctx, s.st, r, tis)
}
