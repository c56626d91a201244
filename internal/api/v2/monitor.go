package v2

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"ostro.dev/ostro/internal/api/v2/wire"
	"ostro.dev/ostro/internal/store"
)

// A loop that has not turned for so long is reported unhealthy; Airflow's scheduler_health_check_threshold.
const staleAfter = 30 * time.Second

// probeEvery is how long an answer about the store stays good.
const probeEvery = 5 * time.Second

// probeLimit is how long the store may take for it.
const probeLimit = 10 * time.Second

func (a *API) getVersion(r *request) error {
	return r.ok(wire.Version{Version: a.Version, GitVersion: opt(a.Revision)})
}

// proof is what is known of whether the store can be written.
type proof struct {
	mu    sync.Mutex
	err   error
	at    time.Time
	doing chan struct{} // closed when the one under way is done; nil while none is
}

// writable proves that the store can be written, at most every few seconds: the route is open, and the proof is a commit. Who
// asks while another does shares the answer, and waits no longer than they care to.
func (a *API) writable(ctx context.Context) error {
	p := &a.proof
	p.mu.Lock()
	switch doing := p.doing; {
	case doing != nil:
		p.mu.Unlock()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-doing:
		}
		p.mu.Lock()
	case time.Since(p.at) > probeEvery:
		done := make(chan struct{})
		p.doing = done
		p.mu.Unlock()
		err := a.prove(ctx)
		p.mu.Lock()
		p.err, p.at, p.doing = err, time.Now(), nil
		close(done)
	}
	defer p.mu.Unlock()
	return p.err
}

// prove asks the store.
func (a *API) prove(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), probeLimit) // the answer is not only for who asks now
	defer cancel()
	return a.Store.Health(ctx)
}

// getHealth asks every part; the status is 200 whatever the answer, as in Airflow. The route is open: what the system said of
// a problem may name files of the machine, and is for those who have the token.
func (a *API) getHealth(r *request) error {
	healthy, unhealthy := "healthy", "unhealthy"
	status := func(good bool) *string {
		if good {
			return &healthy
		}
		return &unhealthy
	}
	var h Health
	if a.Health != nil {
		h = a.Health()
	}
	database := a.refusal(r.ctx())
	out := wire.Health{Metadatabase: wire.HealthStatus{Status: status(database == "" && h.Stuck == "")},
		Ostro: wire.HealthExtras{Worker: "disconnected", Commits: a.Store.Commits(), Reading: a.reading(), Problem: problems(or(h.Stuck, database), h.Problem)}}
	if a.Health != nil {
		out.Scheduler = wire.SchedulerHealth{Status: status(database == "" && h.Stuck == "" && time.Since(h.Scheduler) < staleAfter), Heartbeat: wire.AtPtr(&h.Scheduler)}
		out.DagProcessor = wire.ProcessorHealth{Status: status(time.Since(h.DagProcessor) < staleAfter), Heartbeat: wire.AtPtr(&h.DagProcessor)}
		if out.Ostro.WorkerInstance = h.WorkerInstance; h.WorkerInstance != "" {
			out.Ostro.Worker = "connected"
		}
	}
	if actorOf(r.Context()) == anonymous {
		out.Ostro.Problem, _, _ = strings.Cut(out.Ostro.Problem, ": ")
	}
	return r.ok(out)
}

// refusal says in words why the database cannot be written; empty when it can. A change that was refused a moment ago counts,
// even where the small one of the proof found room.
func (a *API) refusal(ctx context.Context) string {
	err := a.writable(ctx)
	if last := a.Store.Refused(); err == nil && last != nil && time.Since(last.At) < probeEvery {
		err = last.Err
	}
	if err == nil {
		return ""
	}
	return "the database cannot be written: " + err.Error()
}

// problems is what is wrong in one line, empty when nothing is.
func problems(all ...string) string {
	return strings.Join(slices.DeleteFunc(all, func(p string) bool { return p == "" }), "; ")
}

// getConfig refuses, as Airflow does by default.
func getConfig(*request) error {
	return refuse(http.StatusForbidden, "Your Airflow administrator chose not to expose the configuration, most likely for security reasons.")
}

func (a *API) wireImportError(e store.ImportError) wire.ImportError {
	out := wire.ImportError{ID: e.ID, Timestamp: wire.At(e.At), Filename: e.File, BundleName: opt(e.Bundle), StackTrace: or(e.Traceback, e.Message)}
	out.Ostro.DAGID, out.Ostro.Line, out.Ostro.Message = e.DAGID, e.Line, e.Message
	return out
}

func (a *API) listImportErrors(r *request) error {
	limit, offset := r.page()
	order, err := r.order("ParseImportError", map[string]string{"id": "", "import_error_id": "", "timestamp": "", "filename": "filename", "bundle_name": "bundle", "stacktrace": ""})
	if err != nil {
		return err
	}
	if err := r.bad(); err != nil {
		return err
	}
	all, err := a.Store.ImportErrors(r.ctx())
	if err != nil {
		return fmt.Errorf("list import errors: %w", err)
	}
	if p := r.text("filename_pattern"); p != "" && p != everyDAG {
		all = slices.DeleteFunc(all, func(e store.ImportError) bool { return !like(p, e.File) })
	}
	sortBy(all, order, map[string]func(store.ImportError) string{"filename": func(e store.ImportError) string { return e.File },
		"bundle": func(e store.ImportError) string { return e.Bundle }})
	out := wire.ImportErrors{ImportErrors: []wire.ImportError{}, Total: len(all)}
	for _, e := range window(all, limit, offset) {
		out.ImportErrors = append(out.ImportErrors, a.wireImportError(e))
	}
	return r.ok(out)
}

func (a *API) getImportError(r *request) error {
	id := r.pathInt("import_error_id")
	if err := r.bad(); err != nil {
		return err
	}
	all, err := a.Store.ImportErrors(r.ctx())
	if err != nil {
		return fmt.Errorf("list import errors: %w", err)
	}
	for _, e := range all {
		if e.ID == int64(id) {
			return r.ok(a.wireImportError(e))
		}
	}
	return notFound("The ImportError with import_error_id: `%d` was not found", id)
}

func wireEvent(e store.Event) wire.EventLog {
	out := wire.EventLog{ID: e.Seq, When: wire.At(e.At), DAGID: opt(e.DAGID), TaskID: opt(e.TaskID), RunID: opt(e.RunID), Event: e.Kind,
		Owner: opt(e.Actor), DagDisplayName: opt(e.DAGID), TaskDisplayName: opt(e.TaskID)}
	if e.TaskID != "" {
		out.MapIndex = &e.MapIndex
	}
	extra := map[string]any{}
	if len(e.Detail) > 0 {
		extra["detail"] = e.Detail
	}
	if e.From != "" || e.To != "" {
		extra["from"], extra["to"] = e.From, e.To
	}
	if len(extra) > 0 {
		if b, err := encode(extra); err == nil {
			s := string(b)
			out.Extra = &s
		}
	}
	return out
}

// eventFilter is what GET /eventLogs can ask for.
func eventFilter(r *request) func(store.Event) bool {
	equal := map[string]func(store.Event) string{"dag_id": func(e store.Event) string { return e.DAGID }, "task_id": func(e store.Event) string { return e.TaskID },
		"run_id": func(e store.Event) string { return e.RunID }, "owner": func(e store.Event) string { return e.Actor }, "event": func(e store.Event) string { return e.Kind }}
	index, before, after := r.intFrom("map_index", -2, -1), r.moment("before"), r.moment("after")
	excluded, included := r.query["excluded_events"], r.query["included_events"]
	return func(e store.Event) bool {
		for name, get := range equal {
			if v := r.text(name); v != "" && v != get(e) {
				return false
			}
			if p := r.text(name + "_pattern"); p != "" && !like(p, get(e)) {
				return false
			}
		}
		return (index == -2 || e.MapIndex == index) && (before == nil || e.At.Before(*before)) && (after == nil || e.At.After(*after)) &&
			!slices.Contains(excluded, e.Kind) && (len(included) == 0 || slices.Contains(included, e.Kind))
	}
}

// eachEvent walks the log in commit order, a piece at a time.
func (a *API) eachEvent(r *request, visit func(store.Event)) error {
	for after := int64(0); ; {
		es, err := a.Store.Events(r.ctx(), after, 5000)
		if err != nil {
			return fmt.Errorf("read the event log: %w", err)
		}
		for _, e := range es {
			visit(e)
			after = e.Seq
		}
		if len(es) < 5000 {
			return nil
		}
	}
}

func (a *API) listEventLogs(r *request) error {
	limit, offset := r.page()
	order, err := r.order("Log", map[string]string{"id": "id", "event_log_id": "id", "dttm": "id", "when": "id"})
	if err != nil {
		return err
	}
	if err := r.unserved("try_number"); err != nil {
		return err
	}
	keep := eventFilter(r)
	if err := r.bad(); err != nil {
		return err
	}
	newest := len(order) > 0 && strings.HasPrefix(order[0], "-")
	if f, ok := storeFilter(r, newest, limit, offset); ok {
		page, total, err := a.Store.EventLog(r.ctx(), f)
		if err != nil {
			return fmt.Errorf("read the event log: %w", err)
		}
		return answerEvents(r, page, total)
	}
	var page []store.Event
	total := 0
	err = a.eachEvent(r, func(e store.Event) {
		if !keep(e) {
			return
		}
		total++
		switch {
		case newest:
			if page = append(page, e); len(page) > 2*(offset+limit)+100 { // only the last ones can be on the page
				page = slices.Clone(page[len(page)-offset-limit:])
			}
		case total > offset && len(page) < limit:
			page = append(page, e)
		}
	})
	if err != nil {
		return err
	}
	if newest {
		slices.Reverse(page)
		page = window(page, limit, offset)
	}
	return answerEvents(r, page, total)
}

// storeFilter is what the request asks for as a filter of the store, when the store can filter by all of it.
func storeFilter(r *request, newest bool, limit, offset int) (store.EventFilter, bool) {
	for name := range r.query {
		if strings.HasSuffix(name, "_pattern") || name == "before" || name == "after" || name == "excluded_events" {
			return store.EventFilter{}, false
		}
	}
	f := store.EventFilter{DAGID: r.text("dag_id"), RunID: r.text("run_id"), TaskID: r.text("task_id"), Actor: r.text("owner"),
		Kinds: r.query["included_events"], OldestFirst: !newest, Limit: limit, Offset: offset}
	if e := r.text("event"); e != "" {
		if len(f.Kinds) > 0 {
			return f, false
		}
		f.Kinds = []string{e}
	}
	if n := r.intFrom("map_index", -2, -1); n != -2 {
		f.MapIndex = &n
	}
	return f, limit > 0
}

func answerEvents(r *request, page []store.Event, total int) error {
	out := wire.EventLogs{EventLogs: []wire.EventLog{}, Total: total}
	for _, e := range page {
		out.EventLogs = append(out.EventLogs, wireEvent(e))
	}
	return r.ok(out)
}

func (a *API) getEventLog(r *request) error {
	id := r.pathInt("event_log_id")
	if err := r.bad(); err != nil {
		return err
	}
	es, err := a.Store.Events(r.ctx(), int64(id)-1, 1)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("read the event log: %w", err)
	}
	if len(es) == 0 || es[0].Seq != int64(id) {
		return notFound("The Event Log with id: `%d` not found", id)
	}
	return r.ok(wireEvent(es[0]))
}
