// Package taskapi answers what tasks ask the control plane while they run: XComs, variables, connections, other DAG runs.
//
// Every request carries the token of the attempt it comes from. The token is good for that attempt alone and only until it
// ends; whoever shows another is refused. Requests may arrive twice, because a server was away when the first answer was
// due, so every order has the same effect when it is repeated. The package must not know how requests travel.
package taskapi

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"ostro.dev/ostro/internal/core/dag"
	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/scheduler"
	"ostro.dev/ostro/internal/store"
	"ostro.dev/ostro/protocol"
)

// Store is what the package needs of the control database.
type Store interface {
	Update(ctx context.Context, actor string, now time.Time, f func(*store.Tx) error) error
	StageXCom(value json.RawMessage) error
	StageXComFile(path string) (name string, size int64, err error)
	AttemptByToken(ctx context.Context, hash []byte) (run.Attempt, error)
	XCom(ctx context.Context, k run.Key, key string) (store.XCom, error)
	XComInPlace(ctx context.Context, k run.Key, key string) (store.XCom, error)
	XComsOfTask(ctx context.Context, dagID, runID, taskID, key string) ([]store.XCom, error)
	CountMappedXComs(ctx context.Context, dagID, runID, taskID, key string) (int, error)
	MappedXCom(ctx context.Context, dagID, runID, taskID, key string, offset int) (store.XCom, error)
	Variable(ctx context.Context, key string) (store.Variable, error)
	Connection(ctx context.Context, id string) (store.Connection, error)
	DAG(ctx context.Context, dagID string) (store.DAGInfo, error)
	Run(ctx context.Context, dagID, runID string) (run.DAGRun, error)
	Runs(ctx context.Context, f store.RunFilter) ([]run.DAGRun, int, error)
	DAGVersion(ctx context.Context, dagID string, number int) (*dag.DAG, store.DAGVersionInfo, error)
	TaskInstances(ctx context.Context, f store.TIFilter) ([]run.TaskInstance, int, error)
	TaskInstancesAfter(ctx context.Context, f store.TIFilter, after int64, limit int) ([]run.TaskInstance, int64, error)
	TaskStates(ctx context.Context, f store.TIFilter, visit func(run.Key, run.TaskState) error) error
	Assets(ctx context.Context, f store.AssetFilter) ([]store.Asset, int, error)
	AssetEvents(ctx context.Context, f store.AssetEventFilter) ([]store.AssetEvent, int, error)
}

// Scheduler is what the package needs of the scheduler.
type Scheduler interface {
	Trigger(ctx context.Context, actor string, r scheduler.TriggerRequest) (run.DAGRun, error)
	Pushed(attemptID, key string, mapLength int)
	AwaitRuns(ctx context.Context, classpath string, kwargs json.RawMessage) (json.RawMessage, bool, error)
	TriggererWork(ctx context.Context, attemptID, token string) (protocol.TriggererWork, error)
	TriggerReported(ctx context.Context, attemptID string, r scheduler.TriggerReport) error
	CallbackAttempt(attemptID, token string) (run.Attempt, bool)
}

// A Service answers requests. Create it with New.
type Service struct {
	store   Store
	sched   Scheduler
	scratch string
	log     *slog.Logger
}

// New returns a service. Below scratch, attempts that run on this machine have a folder each for files of theirs, named after
// them; empty: none does.
func New(st Store, sched Scheduler, scratch string, logger *slog.Logger) *Service {
	return &Service{store: st, sched: sched, scratch: scratch, log: logger}
}

// call is one request on its way.
type call struct {
	*Service
	ctx     context.Context
	attempt run.Attempt
	req     protocol.Request
}

// handlers by the type of the request.
var handlers = map[string]func(*call) (any, error){
	"GetXCom": (*call).getXCom, "GetXComCount": (*call).getXComCount, "GetXComSequenceItem": (*call).getXComItem,
	"GetXComSequenceSlice": (*call).getXComSlice, "SetXCom": (*call).setXCom, "SetXComFile": (*call).setXComFile, "DeleteXCom": (*call).deleteXCom,
	"GetVariable": (*call).getVariable, "PutVariable": (*call).putVariable, "DeleteVariable": (*call).deleteVariable,
	"GetConnection": (*call).getConnection,
	"TriggerDagRun": (*call).triggerDagRun, "GetDagRunState": (*call).getDagRunState, "GetDagRun": (*call).getDagRun,
	"GetPreviousDagRun": (*call).getPreviousDagRun, "GetPrevSuccessfulDagRun": (*call).getPrevSuccessfulDagRun,
	"GetTICount": (*call).getTICount, "GetTaskStates": (*call).getTaskStates, "GetTaskInstances": (*call).getTaskInstances,
	"GetDRCount":     (*call).getDRCount,
	"GetAssetByName": (*call).getAsset, "GetAssetByUri": (*call).getAsset,
	"GetAssetEventByAsset": (*call).getAssetEvents, "GetAssetEventByAssetAlias": (*call).getAssetEvents,
	"GetDag": (*call).getDag, "AwaitRuns": (*call).awaitRuns,
	"GetTriggers": (*call).getTriggers, "TriggerFired": (*call).triggerFired, "TriggerFailed": (*call).triggerFailed,
	"TriggerBlocks": (*call).triggerBlocks,
}

// Call answers one request. Errors are *protocol.Error, fit to be shown to the task.
func (s *Service) Call(ctx context.Context, attemptID, token string, request json.RawMessage) (json.RawMessage, error) {
	c := &call{Service: s, ctx: ctx}
	var err error
	if c.attempt, err = s.authorize(ctx, attemptID, token); err != nil {
		return nil, s.refusal(err)
	}
	if err := json.Unmarshal(request, &c.req); err != nil {
		return nil, fault(protocol.CodeInvalid, "the request cannot be read: %v", err)
	}
	return s.answer(c)
}

// CallImport answers what a DAG file of a bundle asks while it is imported, outside any attempt: variables and
// connections, for reading. Who may connect to the worker may read them; there is no token to show.
func (s *Service) CallImport(ctx context.Context, bundle string, request json.RawMessage) (json.RawMessage, error) {
	c := &call{Service: s, ctx: ctx}
	if err := json.Unmarshal(request, &c.req); err != nil {
		return nil, fault(protocol.CodeInvalid, "the request cannot be read: %v", err)
	}
	switch c.req.Type {
	case "GetVariable", "GetConnection":
		return s.answer(c)
	}
	return nil, fault(protocol.CodePermission, "a DAG file of %s that is being imported may read variables and connections, and not ask for %q",
		bundle, c.req.Type)
}

func (s *Service) answer(c *call) (json.RawMessage, error) {
	handle := handlers[c.req.Type]
	if handle == nil {
		return nil, fault(protocol.CodeNotSupported, "the control plane does not know the request %q", c.req.Type)
	}
	answer, err := handle(c)
	if err != nil {
		return nil, s.refusal(err)
	}
	body, err := json.Marshal(answer)
	if err != nil {
		return nil, s.refusal(fmt.Errorf("encode the answer to %s: %w", c.req.Type, err))
	}
	return body, nil
}

// authorize finds the live attempt a token belongs to.
func (s *Service) authorize(ctx context.Context, attemptID, token string) (run.Attempt, error) {
	hash := sha256.Sum256([]byte(token))
	a, err := s.store.AttemptByToken(ctx, hash[:])
	if err == nil && a.ID == attemptID {
		return a, nil
	}
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return a, fmt.Errorf("check the token of attempt %s: %w", attemptID, err)
	}
	if a, ok := s.sched.CallbackAttempt(attemptID, token); ok {
		return a, nil
	}
	return a, errNotItsToken
}

// errNotItsToken refuses who may ask nothing, or nothing any more.
var errNotItsToken = fault(protocol.CodePermission, "the attempt has ended, or the token is not its own")

// refusal turns an error into one a task may see: its own words for what is its own business, none of the server's.
func (s *Service) refusal(err error) error {
	var known *protocol.Error
	switch {
	case errors.As(err, &known):
		return known
	case errors.Is(err, store.ErrUnavailable), errors.Is(err, store.ErrClosed), errors.Is(err, store.ErrFenced), errors.Is(err, scheduler.ErrStopped),
		errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		// The worker asks again, this server or the next.
		return fault(protocol.CodeUnavailable, "the control plane cannot answer now; try again")
	case errors.Is(err, scheduler.ErrNotFound), errors.Is(err, store.ErrNotFound):
		return fault(protocol.CodeNotFound, "%v", err)
	case errors.Is(err, scheduler.ErrInvalid), errors.Is(err, store.ErrInvalid):
		return fault(protocol.CodeInvalid, "%v", err)
	}
	s.log.Error("a task's request failed", "error", err)
	return fault(protocol.CodeGeneric, "the control plane could not do it; its log says why")
}

func fault(code, format string, args ...any) *protocol.Error {
	return &protocol.Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// update writes in the attempt's name, patiently. The attempt may end meanwhile; then it writes nothing any more, since its
// successor may have begun.
func (c *call) update(f func(*store.Tx) error) error {
	return c.patiently(func() error {
		return c.store.Update(c.ctx, c.actor(), time.Now(), func(tx *store.Tx) error {
			if err := tx.StillOpen(c.attempt.ID); errors.Is(err, store.ErrConflict) {
				return errNotItsToken
			} else if err != nil {
				return err
			}
			return f(tx)
		})
	})
}

// patiently tries until the store takes it: the task asked once and would fail.
func (c *call) patiently(try func() error) error {
	wait := 50 * time.Millisecond
	for {
		err := try()
		if !errors.Is(err, store.ErrUnavailable) {
			return err
		}
		t := time.NewTimer(wait)
		select {
		case <-c.ctx.Done():
			t.Stop()
			return err
		case <-t.C:
		}
		wait = min(2*wait, 2*time.Second)
	}
}

func (c *call) actor() string { return "attempt:" + c.attempt.ID }

// key is the instance a request names; what it leaves out is the attempt's own.
func (c *call) key() run.Key {
	k := run.Key{DAGID: c.req.DAGID, RunID: c.req.RunID, TaskID: c.req.TaskID, MapIndex: -1}
	if k.DAGID == "" {
		k.DAGID = c.attempt.DAGID
	}
	if k.RunID == "" {
		k.RunID = c.attempt.RunID
	}
	if k.TaskID == "" {
		k.TaskID = c.attempt.TaskID
	}
	if c.req.MapIndex != nil {
		k.MapIndex = *c.req.MapIndex
	}
	return k
}

// ok is the answer to an order.
var ok = protocol.OKResponse{Type: "OKResponse", OK: true}
