package v2_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	v2 "ostro.dev/ostro/internal/api/v2"
	"ostro.dev/ostro/internal/api/v2/wire"
	"ostro.dev/ostro/internal/core/plan"
	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/store"
)

var keyGet = run.Key{DAGID: "etl", RunID: "r1", TaskID: "get", MapIndex: -1}

const sourcesBegin = `{"content":[{"event":"::group::Log message source details","sources":[`

func TestLogsComeAsStructuredLines(t *testing.T) {
	b := newBench(t)
	b.writeLog(2, `{"t":"2024-01-31T02:00:01.5Z","s":"stdout","l":"info","m":"hello"}`+"\n"+`{"t":"2024-01-31T02:00:02Z","s":"log","l":"error","m":"a\nb","n":"x.y"}`+"\n"+`{"t":"2024-0`)
	code, body := b.do("GET", tis+"/get/logs/2", "")
	want := `{"timestamp":"2024-01-31T02:00:01.500000Z","event":"hello","level":"info","stream":"stdout"},` +
		`{"timestamp":"2024-01-31T02:00:02Z","event":"a\nb","level":"error","logger":"x.y","stream":"log"},{"event":"{\"t\":\"2024-0"}],"continuation_token":null}`
	if code != 200 || !strings.HasPrefix(body, sourcesBegin) || !strings.HasSuffix(body, want) {
		t.Errorf("%d %s", code, body)
	}
	if code, body := b.do("GET", tis+"/get/logs/2", "", "Accept", "text/plain"); code != 406 {
		t.Errorf("text/plain: %d %s", code, body)
	}
	b.want("GET", tis+"/get/logs/2?token=x", "", 400, `{"detail":"Bad Signature…`)
	b.want("GET", tis+"/get/logs/1", "", 200, sourcesBegin+"…") // a log that is gone has no lines
}

func TestWhatACallbackSaidInAProcessOfItsOwnComesAfterTheTasksLog(t *testing.T) {
	b := newBench(t)
	line := func(text string) string {
		return `{"t":"2024-01-31T02:00:01Z","s":"stdout","l":"info","m":"` + text + `"}` + "\n"
	}
	file := b.writeLog(2, line("of the task"))
	if err := os.WriteFile(strings.TrimSuffix(file, "log")+"on_failure_callback.log", []byte(line("of the callback")), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, how := range [][]string{nil, {"Accept", "application/x-ndjson"}} {
		code, body := b.do("GET", tis+"/get/logs/2", "", how...)
		var at []int
		for _, text := range []string{"of the task", "on_failure_callback, run in a process of its own:", "of the callback"} {
			at = append(at, strings.Index(body, text))
		}
		if code != 200 || at[0] < 0 || !slices.IsSorted(at) {
			t.Errorf("%v: %d %s", how, code, body)
		}
	}
}

func TestALogLargerThanAPageContinuesWithItsToken(t *testing.T) {
	b := newBench(t)
	var text strings.Builder
	const n = 60_000
	for i := range n {
		fmt.Fprintf(&text, `{"t":"2024-01-31T02:00:01Z","s":"stdout","l":"info","m":"line %06d %s"}`+"\n", i, strings.Repeat("x", 150))
	}
	b.writeLog(2, text.String())
	lines, token, pages := 0, "", 0
	for {
		_, body := b.do("GET", tis+"/get/logs/2?token="+token, "")
		if token == "" {
			_, body = b.do("GET", tis+"/get/logs/2", "")
		}
		var page wire.Logs
		if err := json.Unmarshal([]byte(body), &page); err != nil {
			t.Fatal(err)
		}
		pages++
		for _, l := range page.Content {
			if strings.HasPrefix(l.Event, "line ") {
				if want := fmt.Sprintf("line %06d", lines); !strings.HasPrefix(l.Event, want) {
					t.Fatalf("got %s, want %s", l.Event, want)
				}
				lines++
			}
		}
		if page.ContinuationToken == nil {
			break
		}
		token = *page.ContinuationToken
	}
	if lines != n || pages < 2 {
		t.Errorf("%d lines in %d pages", lines, pages)
	}
	_, body := b.do("GET", tis+"/get/logs/2?full_content=true", "")
	if strings.Count(body, `"line `) != n {
		t.Errorf("full_content gave %d lines", strings.Count(body, `"line `))
	}
}

// openStream serves the API for real and reads a stream's lines.
func (b *bench) openStream(ctx context.Context, h http.Handler, path string) *bufio.Scanner {
	b.t.Helper()
	server := httptest.NewServer(h)
	b.t.Cleanup(server.Close)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL+path, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	req.Header.Set("Accept", "application/x-ndjson")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = resp.Body.Close() })
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "application/x-ndjson" {
		b.t.Fatalf("%s: %s, %s", path, resp.Status, resp.Header.Get("Content-Type"))
	}
	s := bufio.NewScanner(resp.Body)
	s.Buffer(nil, 1<<20)
	return s
}

func (b *bench) nextLine(s *bufio.Scanner) string {
	b.t.Helper()
	if !s.Scan() {
		b.t.Fatalf("the stream ended: %v", s.Err())
	}
	return s.Text()
}

// startRun adds a running run with one running task instance and its attempt.
func (b *bench) startRun() (run.DAGRun, run.TaskInstance, run.Attempt) {
	b.t.Helper()
	row := run.DAGRun{DAGID: "etl", RunID: "r2", Type: run.TypeManual, State: run.RunRunning, RunAfter: t0, QueuedAt: t0, StartDate: ptr(t0), Conf: json.RawMessage("{}"), TriggeredBy: "token:local", DAGVersion: 1, BundleVersion: "bv1"}
	ti := run.TaskInstance{Key: run.Key{DAGID: "etl", RunID: "r2", TaskID: "get", MapIndex: -1}, ID: "00000000-0000-7000-8000-000000000009", State: run.Running, TryNumber: 1, AttemptID: "att-9", StartDate: ptr(t0)}
	at := run.Attempt{Key: ti.Key, ID: "att-9", TryNumber: 1, State: run.Queued, Instance: "w", Executor: "local", QueuedAt: t0}
	b.update(func(tx *store.Tx) error {
		if err := tx.CreateRun(&row, []run.TaskInstance{ti}); err != nil {
			return err
		}
		return tx.CreateAttempt(at, []byte("nine"))
	})
	var err error
	if row, err = b.db.Run(b.t.Context(), "etl", "r2"); err != nil {
		b.t.Fatal(err)
	}
	if ti, err = b.db.TaskInstance(b.t.Context(), ti.Key); err != nil {
		b.t.Fatal(err)
	}
	return row, ti, at
}

func (b *bench) endRun(row run.DAGRun, ti run.TaskInstance, at run.Attempt, s run.State) {
	b.t.Helper()
	afterRow, afterTI := row, ti
	afterRow.State, afterRow.EndDate = s, ptr(t0.Add(time.Second))
	afterTI.State, afterTI.EndDate = run.TaskState(s), ptr(t0.Add(time.Second))
	at.State, at.EndedAt = run.TaskState(s), ptr(t0.Add(time.Second))
	b.update(func(tx *store.Tx) error {
		if err := tx.EndAttempt(at); err != nil {
			return err
		}
		if err := tx.ChangeTasks([]plan.TaskChange{{Before: ti, After: afterTI}}); err != nil {
			return err
		}
		return tx.ChangeRun(plan.RunChange{Before: row, After: afterRow})
	})
}

func TestWaitingTellsTheEndAtOnceWithResults(t *testing.T) {
	b := newBench(t)
	row, ti, at := b.startRun()
	b.want("GET", runs+"/r2/wait", "", 422, `{"detail":[{"type":"missing","loc":["query","interval"]…`)
	s := b.openStream(t.Context(), b.api, "/api/v2"+runs+"/r2/wait?interval=600&result=get")
	if got := b.nextLine(s); got != `{"state":"running"}` {
		t.Errorf("first line %s", got)
	}
	b.update(func(tx *store.Tx) error { return tx.PutXCom(ti.Key, "return_value", json.RawMessage(`{"f1":0.92}`), 1) })
	b.endRun(row, ti, at, run.RunSuccess)
	if got := b.nextLine(s); got != `{"state":"success","results":{"get":{"f1":0.92}}}` {
		t.Errorf("last line %s", got)
	}
	if s.Scan() {
		t.Errorf("a line after the end: %s", s.Text())
	}
}

func TestFollowingALogEndsWithItsAttempt(t *testing.T) {
	b := newBench(t)
	row, ti, at := b.startRun()
	file := strings.Replace(b.writeLog(1, ""), "run_id=r1", "run_id=r2", 1)
	if err := os.MkdirAll(file[:strings.LastIndex(file, "/")], 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	s := b.openStream(t.Context(), b.api, "/api/v2"+runs+"/r2/taskInstances/get/logs/1")
	b.nextLine(s)
	b.nextLine(s)
	write := func(text string) {
		if _, err := f.WriteString(text); err != nil {
			t.Fatal(err)
		}
	}
	write(`{"t":"2024-01-31T02:00:01Z","s":"stdout","l":"info","m":"one"}` + "\n" + `{"t":"2024-01-31T`)
	if got := b.nextLine(s); !strings.Contains(got, `"event":"one"`) {
		t.Errorf("got %s", got)
	}
	write(`02:00:02Z","s":"stdout","l":"info","m":"two"}` + "\n" + `half a li`)
	if got := b.nextLine(s); !strings.Contains(got, `"event":"two"`) {
		t.Errorf("got %s", got)
	}
	b.endRun(row, ti, at, run.RunSuccess)
	if got := b.nextLine(s); got != `{"event":"half a li"}` {
		t.Errorf("got %s", got)
	}
	if s.Scan() {
		t.Errorf("a line after the end: %s", s.Text())
	}
}

func TestAFollowedLogWhoseServerEndsBreaksOff(t *testing.T) {
	b := newBench(t)
	b.startRun()
	ctx, stop := context.WithCancel(t.Context())
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { b.api.ServeHTTP(w, r.WithContext(ctx)) })
	s := b.openStream(t.Context(), h, "/api/v2"+runs+"/r2/taskInstances/get/logs/1")
	b.nextLine(s)
	b.nextLine(s)
	stop()
	if s.Scan() || s.Err() == nil {
		t.Errorf("the stream ended as if the task had: %q", s.Text())
	}
}

func TestAPageBehindATokenHoldsWhatIsNewAndNothingTwice(t *testing.T) {
	b := newBench(t)
	b.startRun()
	path := "/api/v2" + runs + "/r2/taskInstances/get/logs/1"
	page := func(token string) (p wire.Logs) {
		_, body := b.do("GET", strings.TrimPrefix(path, "/api/v2")+token, "")
		if err := json.Unmarshal([]byte(body), &p); err != nil {
			t.Fatal(err)
		}
		return p
	}
	first := page("")
	if len(first.Content) != 2 || first.ContinuationToken == nil {
		t.Fatalf("before the first line: %+v", first)
	}
	if again := page("?token=" + *first.ContinuationToken); len(again.Content) != 0 || again.ContinuationToken == nil {
		t.Errorf("again: %+v", again)
	}
	file := strings.Replace(b.writeLog(1, ""), "run_id=r1", "run_id=r2", 1)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(`{"t":"2024-01-31T02:00:01Z","s":"stdout","l":"info","m":"one"}`+"\n"+`{"t":"20`), 0o644); err != nil {
		t.Fatal(err)
	}
	second := page("?token=" + *first.ContinuationToken)
	if len(second.Content) != 1 || second.Content[0].Event != "one" || second.ContinuationToken == nil {
		t.Fatalf("with a line and a half: %+v", second)
	}
	if third := page("?token=" + *second.ContinuationToken); len(third.Content) != 0 || *third.ContinuationToken != *second.ContinuationToken {
		t.Errorf("with half a line: %+v", third)
	}
}

func TestALiveStreamGivesEverythingThenChangesThenTheEnd(t *testing.T) {
	b := newBench(t)
	row, ti, at := b.startRun()
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { b.api.Live(w, r, "etl", "r2") })
	s := b.openStream(t.Context(), h, "/")
	read := func() (m wire.Live) {
		t.Helper()
		if err := json.Unmarshal([]byte(b.nextLine(s)), &m); err != nil {
			t.Fatal(err)
		}
		return m
	}
	first := read()
	if first.Type != "run" || first.Run.State != "running" || len(first.Tasks) != 1 || *first.Tasks[0].State != "running" {
		t.Fatalf("first %+v", first)
	}
	file := strings.Replace(b.writeLog(1, ""), "run_id=r1", "run_id=r2", 1)
	if err := os.MkdirAll(file[:strings.LastIndex(file, "/")], 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(
		`{"t":"2024-01-31T02:00:01Z","s":"log","l":"error","m":"Task failed with exception\nTraceback:\nValueError: no","n":"airflow.task"}`+"\n"+
			`{"t":"2024-01-31T02:00:02Z","s":"stdout","l":"info","m":"the callback prints"}`+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	b.endRun(row, ti, at, run.RunFailed)
	last := read()
	if last.Type != "end" || last.Run.State != "failed" || len(last.Tasks) != 1 || strings.Join(last.Logs["get"], "|") != "Task failed with exception|Traceback:|ValueError: no" {
		t.Errorf("last %+v", last)
	}
	if s.Scan() {
		t.Errorf("a line after the end: %s", s.Text())
	}
}

func TestAWaitingInstanceSaysWhy(t *testing.T) {
	b := newBench(t)
	b.startRun()
	k := run.Key{DAGID: "etl", RunID: "r2", TaskID: "put", MapIndex: -1}
	b.sched.waiting = []plan.Blocked{{Key: k, Reason: "waits for split"}}
	row := run.DAGRun{DAGID: "etl", RunID: "r3", Type: run.TypeManual, State: run.RunRunning, RunAfter: t0, QueuedAt: t0, Conf: json.RawMessage("{}"), DAGVersion: 1}
	k.RunID = "r3"
	b.sched.waiting[0].Key = k
	b.update(func(tx *store.Tx) error { return tx.CreateRun(&row, []run.TaskInstance{{Key: k, ID: "x"}}) })
	b.want("GET", runs+"/r3/taskInstances/put/dependencies", "", 200, `{"dependencies":[{"name":"Scheduler","reason":"waits for split"}]}`)
	if code, body := b.do("GET", runs+"/r3/taskInstances/put", ""); code != 200 || !strings.Contains(body, `"ostro":{"waiting":"waits for split"}`) {
		t.Errorf("%d %s", code, body)
	}
}

func TestHealthTellsDetailsOfAProblemOnlyToThoseWithTheToken(t *testing.T) {
	b := newBench(t)
	b.api.Health = func() v2.Health {
		return v2.Health{Problem: "the database cannot be written: open /home/me/control.db: no"}
	}
	if _, body := b.do("GET", "/monitor/health", ""); !strings.Contains(body, "cannot be written: open /home/me/control.db") {
		t.Errorf("with the token: %s", body)
	}
	w := httptest.NewRecorder()
	b.api.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/api/v2/monitor/health", nil))
	if body := w.Body.String(); !strings.Contains(body, `"the database cannot be written"`) || strings.Contains(body, "/home/me") {
		t.Errorf("without it: %s", body)
	}
}

// parts are what health says of database and scheduler, and the problem in words.
func (b *bench) parts() (database, scheduler, problem string) {
	b.t.Helper()
	_, body := b.do("GET", "/monitor/health", "")
	var h struct {
		Metadatabase, Scheduler struct{ Status string }
		Ostro                   struct{ Problem string }
	}
	if err := json.Unmarshal([]byte(body), &h); err != nil {
		b.t.Fatal(err)
	}
	return h.Metadatabase.Status, h.Scheduler.Status, h.Ostro.Problem
}

func TestADatabaseThatTakesNoCommitsIsUnhealthyUntilItTakesThem(t *testing.T) {
	b := newBench(t)
	stuck := "the database cannot be written: no space left"
	b.api.Health = func() v2.Health {
		return v2.Health{Scheduler: time.Now(), DagProcessor: time.Now(), Stuck: stuck, Problem: "the worker cannot write"}
	}
	database, scheduler, problem := b.parts()
	if database != "unhealthy" || scheduler != "unhealthy" || problem != stuck+"; the worker cannot write" {
		t.Errorf("while the scheduler cannot commit: database %s, scheduler %s: %s", database, scheduler, problem)
	}
	stuck = ""
	if database, scheduler, problem := b.parts(); database != "healthy" || scheduler != "healthy" || problem != "the worker cannot write" {
		t.Errorf("afterwards: database %s, scheduler %s: %s", database, scheduler, problem)
	}

	b.full.Store(true)
	if code, body := b.do("POST", "/variables", `{"key":"k","value":"v"}`); code != http.StatusServiceUnavailable || !strings.Contains(body, `"reason":"database"`) {
		t.Errorf("a variable is answered with %d %s", code, body)
	}
	if database, _, problem := b.parts(); database != "unhealthy" || !strings.Contains(problem, "the database cannot be written") {
		t.Errorf("after a change was refused: database %s: %s", database, problem)
	}
	b.full.Store(false)
	if code, body := b.do("POST", "/variables", `{"key":"k","value":"v"}`); code != http.StatusCreated {
		t.Errorf("a variable is answered with %d %s", code, body)
	}
	if database, _, problem := b.parts(); database != "healthy" || strings.Contains(problem, "database") {
		t.Errorf("after a change was taken: database %s: %s", database, problem)
	}
}

func TestARequestForAnUnknownDAGWaitsUntilTheFolderWasReadOrTheServerEnds(t *testing.T) {
	b := newBench(t)
	published, ending := make(chan struct{}), make(chan struct{})
	b.api.Published, b.api.Ending = published, ending
	b.want("GET", "/dags/etl/details", "", 200, `{"dag_id":"etl"…`) // one that is known
	close(ending)
	b.want("GET", "/dags/nope/details", "", 503, `{"detail":"This server is stopping…`)
	close(published)
	b.want("GET", "/dags/nope/details", "", 404, `{"detail":"…`)
}
