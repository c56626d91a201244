// Package v2 serves Airflow's public REST API v2, the API of record: Ostro's own command line and UI use it too.
//
// It promises Airflow's paths, bodies, statuses and error shapes; what it does not serve answers 501 and says why, and
// nothing is answered that is not so. Reads come from the store, every change of scheduling state is a command to the
// scheduler. It must not know how requests are authenticated: the caller wraps it and names the actor with WithActor.
package v2

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"ostro.dev/ostro/internal/bundle"
	"ostro.dev/ostro/internal/core/dag"
	"ostro.dev/ostro/internal/core/plan"
	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/scheduler"
	"ostro.dev/ostro/internal/store"
)

// Prefix is where the API lives.
const Prefix = "/api/v2"

// Scheduler takes commands; each is answered after its effect is durable.
type Scheduler interface {
	Trigger(ctx context.Context, actor string, r scheduler.TriggerRequest) (run.DAGRun, error)
	Clear(ctx context.Context, actor string, r scheduler.ClearRequest) ([]run.TaskInstance, error)
	MarkTasks(ctx context.Context, actor string, r scheduler.MarkRequest) ([]run.TaskInstance, error)
	MarkRun(ctx context.Context, actor, dagID, runID string, state run.State) (run.DAGRun, error)
	SetRunNote(ctx context.Context, actor, dagID, runID, note string) (run.DAGRun, error)
	SetTaskNote(ctx context.Context, actor string, k run.Key, note string) (run.TaskInstance, error)
	SetPaused(ctx context.Context, actor, dagID string, paused bool) error
	PutPool(ctx context.Context, actor string, p store.Pool) error
	DeletePool(ctx context.Context, actor, name string) error
	DeleteDAG(ctx context.Context, actor, dagID string) error
	DeleteRun(ctx context.Context, actor, dagID, runID string) error
	Answer(ctx context.Context, actor string, r scheduler.AnswerRequest) (run.Input, error)
	WhyWaiting(ctx context.Context, dagID, runID string) ([]plan.Blocked, error)
	NextRun(ctx context.Context, dagID string) (store.NextRun, bool, error)
	AddAssetEvent(ctx context.Context, actor string, k dag.AssetKey, extra json.RawMessage) (store.AssetEvent, error)
	UnqueueAssets(ctx context.Context, actor, dagID string, asset *dag.AssetKey, before *time.Time) error
	Materialize(ctx context.Context, actor string, k dag.AssetKey, r scheduler.TriggerRequest) (run.DAGRun, error)
	CreateBackfill(ctx context.Context, actor string, r scheduler.BackfillRequest) (store.Backfill, error)
	PlanBackfill(ctx context.Context, r scheduler.BackfillRequest) ([]time.Time, error)
	PauseBackfill(ctx context.Context, actor string, id int64, paused bool) error
	CancelBackfill(ctx context.Context, actor string, id int64) error
}

// Health is what the server's parts say about themselves.
type Health struct {
	// Scheduler and DagProcessor are the last turns of their loops; zero when they have not begun.
	Scheduler, DagProcessor time.Time
	// WorkerInstance is the connected worker's incarnation; empty while none is connected.
	WorkerInstance string
	// Stuck says in words why nothing can be scheduled: the database takes no commits, or cannot be read.
	Stuck string
	// Problem says in words what else is wrong, when something is.
	Problem string
}

// Options are what the API works with. Store and Scheduler are required.
type Options struct {
	Store     *store.DB
	Scheduler Scheduler
	// LogRoot is the folder of attempts' logs.
	LogRoot string
	// DAGsRoot is the folder people know the DAG files by; it makes fileloc.
	DAGsRoot string
	Version  string
	// Revision is the commit the program was built from; empty when unknown.
	Revision string
	// Health is asked at every GET /monitor/health; nil reports only the store.
	Health func() Health
	// Warnings lists what DAG files were accepted with; nil means none.
	Warnings func() []bundle.Warning
	// Published is closed when the DAG folder has been read for the first time since the server started; nil means that it has.
	Published <-chan struct{}
	// Ending is closed when the server begins to stop; nil is never.
	Ending <-chan struct{}
	// Deleted hears that a DAG was deleted, so that one whose file is still there comes back; nil is nobody.
	Deleted func()
	// Encrypted tells whether the store seals secrets at rest.
	Encrypted bool
	// MaxActiveTasks and MaxActiveRuns are the installation's defaults, shown for DAGs that set none.
	MaxActiveTasks, MaxActiveRuns int
	Log                           *slog.Logger
}

// API serves the routes. It is safe for concurrent use.
type API struct {
	Options
	router   *router
	compiled compiled

	proof proof
}

// New builds the API.
func New(o Options) *API {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	a := &API{Options: o}
	a.router = newRouter(a.routes())
	return a
}

// Routes lists every route, served or not.
func (a *API) Routes() []Route { return a.routes() }

// IsPublic tells whether a request needs no token.
func (a *API) IsPublic(r *http.Request) bool {
	route, _, _ := a.router.find(r.Method, strings.TrimPrefix(r.URL.EscapedPath(), Prefix))
	return route != nil && route.Public
}

// ServeHTTP answers a request below Prefix.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	route, params, allowed := a.router.find(r.Method, strings.TrimPrefix(r.URL.EscapedPath(), Prefix))
	switch {
	case route == nil && len(allowed) > 0:
		w.Header().Set("Allow", strings.Join(allowed, ", "))
		answer(w, http.StatusMethodNotAllowed, map[string]string{"detail": "Method Not Allowed"})
		return
	case route == nil:
		answer(w, http.StatusNotFound, map[string]string{"error": "API route not found"})
		return
	case route.Unserved != "":
		answer(w, http.StatusNotImplemented, map[string]string{"detail": route.Unserved})
		return
	}
	err := a.awaitDAG(r.Context(), params["dag_id"])
	if err == nil {
		err = route.handle(&request{Request: r, w: w, params: params, query: r.URL.Query()})
	}
	if err == nil {
		return
	}
	if errors.Is(err, context.Canceled) && r.Context().Err() != nil {
		if w.Header().Get("Content-Type") == "" { // no stream: the server stops, or the client is gone and will not see it
			_ = answerError(w, scheduler.ErrStopped)
		}
		return
	}
	if cause := answerError(w, err); cause != nil {
		a.Log.Error("request", "method", r.Method, "path", r.URL.Path, "request", w.Header().Get("X-Request-Id"), "err", cause)
	}
}

// firstReading is how long a request waits for a DAG that is not known yet while the DAG folder is read for the first time.
const firstReading = 30 * time.Second

// awaitDAG waits until a DAG is known, or will not be: who starts a server and triggers a run at once finds its DAG.
func (a *API) awaitDAG(ctx context.Context, dagID string) error {
	if dagID == "" || dagID == "~" || !a.reading() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, firstReading)
	defer cancel()
	for {
		changed := a.Store.Changed()
		if _, err := a.Store.DAG(ctx, dagID); !errors.Is(err, store.ErrNotFound) {
			return nil
		}
		select {
		case <-changed:
		case <-a.Published:
			return nil
		case <-ctx.Done():
			return nil
		case <-a.Ending:
			return scheduler.ErrStopped
		}
	}
}

// reading tells whether the DAG folder has yet to be read whole.
func (a *API) reading() bool {
	if a.Published == nil {
		return false
	}
	select {
	case <-a.Published:
		return false
	default:
		return true
	}
}

// unserved refuses query parameters that Airflow has and that would change the answer here if they had an effect.
func (r *request) unserved(names ...string) error {
	for _, n := range names {
		if r.has(n) {
			return &refusal{status: http.StatusNotImplemented, detail: fmt.Sprintf("The query parameter %s is not served", n)}
		}
	}
	return nil
}

// ok answers 200, created 201, nothing 204.
func (r *request) ok(v any) error      { answer(r.w, http.StatusOK, v); return nil }
func (r *request) created(v any) error { answer(r.w, http.StatusCreated, v); return nil }
func (r *request) nothing() error      { r.w.WriteHeader(http.StatusNoContent); return nil }
