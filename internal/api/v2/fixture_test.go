package v2_test

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	v2 "ostro.dev/ostro/internal/api/v2"
	"ostro.dev/ostro/internal/bundle"
	"ostro.dev/ostro/internal/core/dag"
	"ostro.dev/ostro/internal/core/plan"
	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/scheduler"
	"ostro.dev/ostro/internal/store"
	"ostro.dev/ostro/protocol"
)

var update = flag.Bool("update", false, "rewrite the golden bodies")

// t0 is when everything in the fixture happens.
var t0 = time.Date(2024, 1, 31, 2, 0, 0, 123456000, time.UTC)

// commands is a scheduler that does what it is told in the plainest way and remembers what that was.
type commands struct {
	db      *store.DB
	mu      sync.Mutex
	got     []any
	refuse  error
	waiting []plan.Blocked
}

func (c *commands) note(v any) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.got = append(c.got, v)
	return c.refuse
}

func (c *commands) last() any {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.got) == 0 {
		return nil
	}
	return c.got[len(c.got)-1]
}

func (c *commands) Trigger(ctx context.Context, actor string, r scheduler.TriggerRequest) (run.DAGRun, error) {
	if err := c.note(r); err != nil {
		return run.DAGRun{}, err
	}
	row := run.DAGRun{DAGID: r.DAGID, RunID: r.RunID, Type: run.TypeManual, State: run.RunQueued, LogicalDate: r.LogicalDate, RunAfter: t0, QueuedAt: t0,
		Conf: r.Conf, Note: r.Note, TriggeredBy: actor, DAGVersion: 1, BundleVersion: "bv1"}
	if row.RunID == "" {
		row.RunID = "manual__made"
	}
	if row.Conf == nil {
		row.Conf = json.RawMessage("{}")
	}
	err := c.db.Update(ctx, actor, t0, func(tx *store.Tx) error { return tx.CreateRun(&row, nil) })
	return row, err
}

func (c *commands) Clear(ctx context.Context, _ string, r scheduler.ClearRequest) ([]run.TaskInstance, error) {
	if err := c.note(r); err != nil {
		return nil, err
	}
	tis, _, err := c.db.TaskInstances(ctx, store.TIFilter{DAGID: r.DAGID, RunID: r.RunID, States: []run.TaskState{run.Failed}})
	return tis, err
}

func (c *commands) MarkTasks(ctx context.Context, _ string, r scheduler.MarkRequest) ([]run.TaskInstance, error) {
	if err := c.note(r); err != nil {
		return nil, err
	}
	tis, _, err := c.db.TaskInstances(ctx, store.TIFilter{DAGID: r.DAGID, RunID: r.RunID, TaskID: r.Tasks[0].TaskID})
	return tis, err
}

func (c *commands) MarkRun(ctx context.Context, _, dagID, runID string, s run.State) (run.DAGRun, error) {
	if err := c.note([]string{dagID, runID, string(s)}); err != nil {
		return run.DAGRun{}, err
	}
	row, err := c.db.Run(ctx, dagID, runID)
	row.State = s
	return row, err
}

func (c *commands) SetRunNote(ctx context.Context, _, dagID, runID, note string) (run.DAGRun, error) {
	row, err := c.db.Run(ctx, dagID, runID)
	row.Note = note
	return row, err
}

func (c *commands) SetTaskNote(ctx context.Context, _ string, k run.Key, note string) (run.TaskInstance, error) {
	if err := c.note(note); err != nil {
		return run.TaskInstance{}, err
	}
	return c.db.TaskInstance(ctx, k)
}

func (c *commands) SetPaused(ctx context.Context, actor, dagID string, paused bool) error {
	return c.db.Update(ctx, actor, t0, func(tx *store.Tx) error { return tx.SetPaused(dagID, paused) })
}

func (c *commands) PutPool(ctx context.Context, actor string, p store.Pool) error {
	return c.db.Update(ctx, actor, t0, func(tx *store.Tx) error { return tx.PutPool(p) })
}

func (c *commands) DeletePool(ctx context.Context, actor, name string) error {
	return c.db.Update(ctx, actor, t0, func(tx *store.Tx) error { return tx.DeletePool(name) })
}

func (c *commands) DeleteDAG(ctx context.Context, actor, dagID string) error {
	return c.db.Update(ctx, actor, t0, func(tx *store.Tx) error { return tx.DeleteDAG(dagID) })
}

func (c *commands) DeleteRun(context.Context, string, string, string) error { return c.note("delete") }

func (c *commands) Answer(_ context.Context, _ string, r scheduler.AnswerRequest) (run.Input, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.got = append(c.got, r)
	return run.Input{Answer: &run.Answer{By: &r.By, Options: r.Options, Params: r.Params}}, c.refuse
}

func (c *commands) WhyWaiting(context.Context, string, string) ([]plan.Blocked, error) {
	return c.waiting, nil
}

func (c *commands) NextRun(context.Context, string) (store.NextRun, bool, error) {
	return store.NextRun{}, false, nil
}

// bench is an API over a store with a small past in it.
type bench struct {
	t       *testing.T
	api     *v2.API
	db      *store.DB
	sched   *commands
	logs    string
	warned  []bundle.Warning
	deleted int
	full    atomic.Bool // the database takes no changes
}

func ptr[T any](v T) *T { return &v }

func newBench(t *testing.T) *bench {
	t.Helper()
	dir := t.TempDir()
	b := &bench{t: t}
	db, err := store.Open(t.Context(), store.Options{Path: filepath.Join(dir, "control.db"), Fault: b.fault})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	b.db, b.sched, b.logs = db, &commands{db: db}, filepath.Join(dir, "logs")
	if err := os.MkdirAll(b.logs, 0o755); err != nil {
		t.Fatal(err)
	}
	b.api = v2.New(v2.Options{Store: db, Scheduler: b.sched, LogRoot: b.logs, DAGsRoot: "/dags", Version: "1.2.3", Warnings: b.warnings, Deleted: func() { b.deleted++ }, MaxActiveTasks: 16, MaxActiveRuns: 16})
	b.fill(dir)
	return b
}

func (b *bench) fault(string) error {
	if b.full.Load() {
		return fmt.Errorf("%w: no space left", store.ErrUnavailable)
	}
	return nil
}

func (b *bench) warnings() []bundle.Warning { return b.warned }

// fill publishes a DAG of three tasks, one of them mapped, and one run of it that failed.
func (b *bench) fill(dir string) {
	if err := os.MkdirAll(filepath.Join(dir, "bv1"), 0o755); err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "bv1", "etl.py"), []byte("# the DAG\n"), 0o644); err != nil {
		b.t.Fatal(err)
	}
	d := &dag.DAG{ID: "etl", File: "etl.py", Description: "extracts", Schedule: dag.Schedule{Kind: dag.ScheduleCronTrigger, Expression: "0 2 * * *", Cron: []string{"0 2 * * *"}},
		StartDate: ptr(t0.Truncate(24 * time.Hour)), Tags: []string{"ml"},
		Params: map[string]dag.Param{"depth": {Value: json.RawMessage("3"), Schema: json.RawMessage(`{"type":"integer","maximum":9}`)}},
		Tasks: []dag.Task{
			{ID: "get", Operator: "_PythonDecoratedOperator", OperatorName: "@task", Module: "m", Owner: "ana", Retries: 1, RetryDelay: dag.Seconds(90 * time.Second), TemplateFields: []string{"op_args"}},
			{ID: "split", Operator: "PythonOperator", Upstream: []string{"get"}, Owner: "bo", Mapped: &dag.Mapping{Kind: "expand", Args: []dag.MapArg{{Name: "x", Length: 2}}}},
			{ID: "put", Operator: "BashOperator", Upstream: []string{"split"}, Owner: "ana", ExecutionTimeout: ptr(dag.Seconds(time.Hour))},
		}}
	row := run.DAGRun{DAGID: "etl", RunID: "r1", Type: run.TypeScheduled, State: run.RunFailed, LogicalDate: ptr(t0.Truncate(time.Hour)), DataIntervalStart: ptr(t0.Truncate(time.Hour)),
		DataIntervalEnd: ptr(t0.Truncate(time.Hour)), RunAfter: t0, QueuedAt: t0, StartDate: ptr(t0), EndDate: ptr(t0.Add(90 * time.Second)), Conf: json.RawMessage(`{"depth":4}`),
		TriggeredBy: "scheduler", DAGVersion: 1, BundleVersion: "bv1"}
	ti := func(id, task string, index int, s run.TaskState) run.TaskInstance {
		return run.TaskInstance{Key: run.Key{DAGID: "etl", RunID: "r1", TaskID: task, MapIndex: index}, ID: id, State: s}
	}
	get := ti("00000000-0000-7000-8000-000000000001", "get", -1, run.Failed)
	get.TryNumber, get.MaxTries, get.AttemptID, get.StartDate, get.EndDate = 2, 1, "att-2", ptr(t0), ptr(t0.Add(1500*time.Millisecond))
	get.Reason, get.QueuedAt, get.ScheduledAt = "ValueError: too deep", ptr(t0), ptr(t0)
	tis := []run.TaskInstance{get, ti("00000000-0000-7000-8000-000000000002", "split", 0, run.UpstreamFailed),
		ti("00000000-0000-7000-8000-000000000003", "split", 1, run.UpstreamFailed), ti("00000000-0000-7000-8000-000000000004", "put", -1, run.None)}
	b.update(func(tx *store.Tx) error {
		if err := tx.PutBundleVersion(store.BundleVersion{Bundle: "dags-folder", Version: "bv1", Path: filepath.Join(dir, "bv1"), At: t0}); err != nil {
			return err
		}
		if _, _, err := tx.PutDAG(d, "dags-folder", "bv1", false); err != nil {
			return err
		}
		if err := tx.CreateRun(&row, tis); err != nil {
			return err
		}
		for try := 1; try <= 2; try++ {
			at := run.Attempt{Key: get.Key, ID: fmt.Sprintf("att-%d", try), TryNumber: try, State: run.Queued, Instance: "w", Executor: "local", QueuedAt: t0}
			if err := tx.CreateAttempt(at, []byte{byte(try)}); err != nil {
				return err
			}
			at.State, at.StartedAt, at.EndedAt, at.ExitCode, at.Reason = run.Failed, ptr(t0), ptr(t0.Add(1500*time.Millisecond)), ptr(1), "exit code 1"
			at.Isolation, at.IsolationReason, at.Notices, at.Rendered = "spawn", "the file left a thread", []string{"tolerations has no effect here"}, json.RawMessage(`{"op_args":["a<b"]}`)
			at.PID, at.Hostname = 42, "box"
			if err := tx.EndAttempt(at); err != nil {
				return err
			}
		}
		if err := tx.PutXCom(get.Key, "return_value", json.RawMessage(`{"s":"it's","n":[1,null,true]}`), 2); err != nil {
			return err
		}
		if err := tx.SetImportErrors("dags-folder", "bad.py", []protocol.ImportError{{File: "bad.py", Line: 3, Message: "SyntaxError: no", Traceback: "Traceback…\nSyntaxError: no"}}); err != nil {
			return err
		}
		return tx.PutConnection(store.Connection{ID: "pg", Type: "postgres", Host: "db", Password: "hush", Extra: `{"api_key":"k","ssl":true}`})
	})
}

func (b *bench) update(f func(*store.Tx) error) {
	b.t.Helper()
	if err := b.db.Update(b.t.Context(), "test", t0, f); err != nil {
		b.t.Fatal(err)
	}
}

// do sends a request and returns status and body.
func (b *bench) do(method, path, body string, headers ...string) (int, string) {
	b.t.Helper()
	r := httptest.NewRequest(method, "/api/v2"+path, strings.NewReader(body))
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	b.api.ServeHTTP(w, r.WithContext(v2.WithActor(b.t.Context(), "token:local")))
	return w.Code, w.Body.String()
}

// want checks status and body; a body that ends in "…" is a beginning.
func (b *bench) want(method, path, body string, status int, want string) {
	b.t.Helper()
	code, got := b.do(method, path, body)
	if code != status {
		b.t.Errorf("%s %s: status %d, want %d: %s", method, path, code, status, got)
		return
	}
	if begin, ok := strings.CutSuffix(want, "…"); ok {
		if !strings.HasPrefix(got, begin) {
			b.t.Errorf("%s %s:\n%s\ndoes not begin with\n%s", method, path, got, begin)
		}
		return
	}
	if diff := cmp.Diff(want, got); diff != "" {
		b.t.Errorf("%s %s (-want +got):\n%s", method, path, diff)
	}
}

// golden compares a JSON body with testdata/NAME.json.
func (b *bench) golden(name, body string) {
	b.t.Helper()
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, []byte(body), "", "  "); err != nil {
		b.t.Fatalf("%s: %v in %s", name, err, body)
	}
	pretty.WriteByte('\n')
	file := filepath.Join("testdata", name+".json")
	if *update {
		if err := os.WriteFile(file, pretty.Bytes(), 0o644); err != nil {
			b.t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		b.t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), pretty.String()); diff != "" {
		b.t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

func (b *bench) writeLog(try int, text string) string {
	b.t.Helper()
	file := filepath.Join(b.logs, filepath.FromSlash(scheduler.LogPath(run.Key{DAGID: "etl", RunID: "r1", TaskID: "get", MapIndex: -1}, try)))
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		b.t.Fatal(err)
	}
	return file
}

var _ http.Handler = (*v2.API)(nil)
