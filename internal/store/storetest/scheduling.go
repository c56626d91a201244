package storetest

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"

	"ostro.dev/ostro/internal/core/gpu"
	"ostro.dev/ostro/internal/core/plan"
	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/store"
)

func testRuns(f *fixture) {
	f.publish("runs", "a", "b")
	logical := Epoch.Add(time.Hour)
	r, tis := Run("runs", "r1", Epoch, "a", "b")
	r.LogicalDate, r.DataIntervalStart, r.DataIntervalEnd = &logical, &logical, &logical
	r.Note, r.ClearNumber, r.BackfillID = "a note", 2, 7
	since := f.last()
	f.update(func(tx *store.Tx) error { return tx.CreateRun(&r, tis) })
	f.same("events of a new run", []string{"run.created"}, f.eventsSince(since))
	f.same("version", int64(1), r.Version)
	got, err := f.db.Run(f.ctx, "runs", "r1")
	f.must(err)
	f.same("run as read", r, got)
	f.same("an empty configuration", json.RawMessage("{}"), got.Conf)

	again, _ := Run("runs", "r1", Epoch)
	f.wantErr(store.ErrConflict, func(tx *store.Tx) error { return tx.CreateRun(&again, nil) })
	again, _ = Run("runs", "r2", Epoch)
	again.LogicalDate = &logical
	f.wantErr(store.ErrConflict, func(tx *store.Tx) error { return tx.CreateRun(&again, nil) })
	unknown, _ := Run("nowhere", "r1", Epoch)
	f.wantErr(store.ErrNotFound, func(tx *store.Tx) error { return tx.CreateRun(&unknown, nil) })

	stale := r
	f.finish(&r, run.RunSuccess)
	got, err = f.db.Run(f.ctx, "runs", "r1")
	f.must(err)
	f.same("run after its end", r, got)
	f.wantErr(store.ErrConflict, func(tx *store.Tx) error { return tx.ChangeRun(plan.RunChange{Before: stale, After: r}) })
	noted := r
	noted.Note = "another"
	since = f.last()
	f.update(func(tx *store.Tx) error { return tx.ChangeRun(plan.RunChange{Before: r, After: noted}) })
	noted.Version++
	cleared := noted
	cleared.ClearNumber++
	f.update(func(tx *store.Tx) error { return tx.ChangeRun(plan.RunChange{Before: noted, After: cleared}) })
	f.same("events of a note and of a mere change", []string{"run.note", "run.changed"}, f.eventsSince(since))

	_, err = f.db.Run(f.ctx, "runs", "no such run")
	f.isErr(store.ErrNotFound, err)
	stats, err := f.db.RunStats(f.ctx, "runs")
	f.must(err)
	f.same("runs by state", map[run.State]int{run.RunSuccess: 1}, stats)
	f.start("runs", "r3", "a")
	latest, err := f.db.LatestRuns(f.ctx)
	f.must(err)
	f.same("latest run", "r3", latest["runs"].RunID)

	f.wantErr(store.ErrConflict, func(tx *store.Tx) error { return tx.DeleteRun("runs", "r3") })
	f.update(func(tx *store.Tx) error { return tx.DeleteRun("runs", "r1") })
	_, err = f.db.Run(f.ctx, "runs", "r1")
	f.isErr(store.ErrNotFound, err)
	f.wantErr(store.ErrNotFound, func(tx *store.Tx) error { return tx.DeleteRun("runs", "r1") })
}

func testTasks(f *fixture) {
	f.publish("tasks", "a", "b")
	_, tis := f.start("tasks", "r1", "a", "b")
	when := Epoch.Add(1500 * time.Microsecond)
	full := tis[0]
	full.ID, full.State, full.TryNumber, full.MaxTries, full.InfraRetries = "new", run.UpForRetry, 2, 3, 1
	full.AttemptID, full.ScheduledAt, full.QueuedAt, full.StartDate, full.EndDate = "at-1", &when, &when, &when, &when
	full.NextAt, full.Reason, full.Note, full.RenderedMapIndex, full.RescheduleCount = &when, "exit code 3", "note", "m", 4
	full.NextMethod, full.NextKwargs, full.Hostname, full.PID = "resume", json.RawMessage(`{"a":1}`), "host", 42
	mapped := run.TaskInstance{Key: run.Key{DAGID: "tasks", RunID: "r1", TaskID: "b", MapIndex: 3}, ID: "m3", State: run.Scheduled}
	changes := []plan.TaskChange{{Before: tis[0], After: full}, {After: mapped}}
	since := f.last()
	f.update(func(tx *store.Tx) error { return tx.ChangeTasks(changes) })
	f.same("events", []string{"task.state", "task.state"}, f.eventsSince(since))
	es, err := f.db.Events(f.ctx, since, 1)
	f.must(err)
	f.same("event of a change", []store.Event{{Seq: since + 1, At: f.now, Actor: "tester", Kind: "task.state", DAGID: "tasks",
		RunID: "r1", TaskID: "a", MapIndex: -1, AttemptID: "at-1", To: "up_for_retry",
		Detail: json.RawMessage(`{"reason":"exit code 3"}`)}}, es)
	full.Version, mapped.Version = 2, 1
	f.same("version set on the change", full.Version, changes[0].After.Version)
	for _, want := range []run.TaskInstance{full, mapped} {
		got, err := f.db.TaskInstance(f.ctx, want.Key)
		f.must(err)
		f.same("instance as read", want, got)
	}

	f.wantErr(store.ErrConflict, func(tx *store.Tx) error { // the second guard fails: the first change goes as well
		return tx.ChangeTasks([]plan.TaskChange{Change(full, run.Failed), Change(tis[0], run.Failed)})
	})
	f.wantErr(store.ErrConflict, func(tx *store.Tx) error { return tx.ChangeTasks([]plan.TaskChange{{After: mapped}}) })
	got, err := f.db.TaskInstance(f.ctx, full.Key)
	f.must(err)
	f.same("instance after a refused change", full, got)
	noted := full
	noted.Note = "other"
	since = f.last()
	f.update(func(tx *store.Tx) error { return tx.ChangeTasks([]plan.TaskChange{{Before: full, After: noted}}) })
	noted.Version++
	pid := noted
	pid.PID++
	f.update(func(tx *store.Tx) error { return tx.ChangeTasks([]plan.TaskChange{{Before: noted, After: pid}}) })
	f.same("events of a note and a mere change", []string{"task.note", "task.changed"}, f.eventsSince(since))

	counts, err := f.db.TaskCounts(f.ctx, "tasks", "r1")
	f.must(err)
	f.same("instances by state", map[run.TaskState]int{run.UpForRetry: 1, run.None: 1, run.Scheduled: 1}, counts)
	_, err = f.db.TaskInstance(f.ctx, run.Key{DAGID: "tasks", RunID: "r1", TaskID: "zzz", MapIndex: -1})
	f.isErr(store.ErrNotFound, err)
}

func testAttempts(f *fixture) {
	f.publish("attempts", "a")
	_, tis := f.start("attempts", "r1", "a")
	since := f.last()
	a := f.attempt(tis[0].Key, "at-1", 1)
	f.wantErr(store.ErrConflict, func(tx *store.Tx) error { return tx.CreateAttempt(a, nil) })
	other := a
	other.ID = "at-2"
	f.wantErr(store.ErrConflict, func(tx *store.Tx) error { return tx.CreateAttempt(other, []byte("token of at-1")) })
	open, err := f.db.OpenAttempts(f.ctx)
	f.must(err)
	f.same("open attempts", []run.Attempt{a}, open)
	n, err := f.db.AtWork(f.ctx)
	f.must(err)
	f.same("at work", 1, n)

	a.State, a.StartedAt, a.PID, a.Hostname, a.Isolation, a.IsolationReason = run.Running, ptr(f.now), 11, "h", "spawn", "threads"
	f.update(func(tx *store.Tx) error { return tx.StartAttempt(a) })
	f.update(func(tx *store.Tx) error { return tx.StartAttempt(a) }) // told twice
	byToken, err := f.db.AttemptByToken(f.ctx, []byte("token of at-1"))
	f.must(err)
	f.same("attempt by token", a, byToken)

	f.update(func(tx *store.Tx) error { return tx.StillOpen("at-1") })
	f.update(func(tx *store.Tx) error { return tx.StillOpen("of a callback") })
	end := run.Attempt{ID: "at-1", TryNumber: 1, State: run.Failed, EndedAt: ptr(f.now), ExitCode: ptr(3), Signal: "KILL",
		Reason: "out of memory", Infra: true, Notices: []string{"no GPU here"}, MaxRSS: 9, CPUTime: 7 * time.Millisecond,
		Rendered: json.RawMessage(`{"x":"y"}`)}
	f.update(func(tx *store.Tx) error { return tx.EndAttempt(end) })
	f.wantErr(store.ErrConflict, func(tx *store.Tx) error { return tx.EndAttempt(end) })
	f.wantErr(store.ErrConflict, func(tx *store.Tx) error { return tx.StartAttempt(a) })
	f.wantErr(store.ErrConflict, func(tx *store.Tx) error { return tx.StillOpen("at-1") })
	f.wantErr(store.ErrNotFound, func(tx *store.Tx) error { return tx.EndAttempt(run.Attempt{ID: "?", State: run.Failed}) })
	f.wantErr(store.ErrNotFound, func(tx *store.Tx) error { return tx.StartAttempt(run.Attempt{ID: "?"}) })
	_, err = f.db.AttemptByToken(f.ctx, []byte("token of at-1"))
	f.isErr(store.ErrNotFound, err)
	f.same("events", []string{"attempt.queued", "attempt.started", "attempt.ended"}, f.eventsSince(since))

	want := end
	want.Key = a.Key
	want.Instance, want.Executor, want.QueuedAt = a.Instance, a.Executor, a.QueuedAt
	want.StartedAt, want.PID, want.Hostname, want.Isolation, want.IsolationReason = a.StartedAt, 11, "h", "spawn", "threads"
	got, err := f.db.Attempt(f.ctx, "at-1")
	f.must(err)
	f.same("attempt after its end", want, got)
	second := a
	second.ID, second.TryNumber, second.GPUs = "at-2", 2, []gpu.Share{{UUID: "GPU-a", Index: 1}, {UUID: "GPU-b", Index: 2, Memory: 9}}
	second.State, second.StartedAt, second.PID, second.Hostname, second.Isolation, second.IsolationReason = run.Queued, nil, 0, "", "", ""
	f.update(func(tx *store.Tx) error { return tx.CreateAttempt(second, nil) })
	second.GPUUse = &gpu.Use{Peak: 7, Begin: f.now, Step: 2, Points: []gpu.Point{{Memory: 7, Busy: 50, N: 1}}, Samples: 1}
	f.update(func(tx *store.Tx) error { return tx.RecordGPUUse(second) })
	f.update(func(tx *store.Tx) error { return tx.RecordGPUUse(run.Attempt{ID: "at-2"}) })
	all, err := f.db.Attempts(f.ctx, tis[0].Key)
	f.must(err)
	f.same("attempts of an instance", []run.Attempt{want, second}, all)
	all, err = f.db.RunAttempts(f.ctx, "attempts", "r1")
	f.must(err)
	f.same("attempts of a run", []run.Attempt{want, second}, all)
	open, err = f.db.OpenAttempts(f.ctx)
	f.must(err)
	f.same("open attempts", []run.Attempt{second}, open)
	f.update(func(tx *store.Tx) error { return tx.MoveOpenTimes(-time.Hour) })
	second.QueuedAt = second.QueuedAt.Add(-time.Hour)
	all, err = f.db.Attempts(f.ctx, tis[0].Key)
	f.must(err)
	f.same("attempts once the clock was set", []run.Attempt{want, second}, all)
	nowhere := run.Key{DAGID: "attempts", RunID: "r1", TaskID: "zzz", MapIndex: -1}
	f.wantErr(store.ErrNotFound, func(tx *store.Tx) error { return tx.CreateAttempt(run.Attempt{Key: nowhere, ID: "x"}, nil) })
	_, err = f.db.Attempt(f.ctx, "?")
	f.isErr(store.ErrNotFound, err)
}

func testXComs(f *fixture) {
	f.publish("xcoms", "a")
	_, tis := f.start("xcoms", "r1", "a")
	k := tis[0].Key
	mapped := k
	mapped.MapIndex = 2
	large := json.RawMessage(`"` + strings.Repeat("x", 100_000) + `"`)
	f.must(f.db.StageXCom(large))
	since := f.last()
	f.update(func(tx *store.Tx) error {
		return errors.Join(tx.PutXCom(k, "return_value", json.RawMessage(`{"f1":0.9}`), 1),
			tx.PutXCom(k, "big", large, -1), tx.PutXCom(mapped, "return_value", nil, 0), tx.PutXCom(k, "gone", nil, 0))
	})
	f.update(func(tx *store.Tx) error { return tx.PutXCom(k, "return_value", json.RawMessage(`[1,2]`), 2) })
	f.update(func(tx *store.Tx) error { return tx.DeleteXComs(k, "gone") })
	f.update(func(tx *store.Tx) error { return tx.DeleteXComs(k, "gone") })
	f.same("events", []string{"xcom.put", "xcom.put", "xcom.put", "xcom.put", "xcom.put", "xcom.deleted"}, f.eventsSince(since))
	es, err := f.db.Events(f.ctx, since, 0)
	f.must(err)
	for _, e := range es {
		if bytes.Contains(e.Detail, []byte("f1")) || len(e.Detail) > 100 {
			f.t.Errorf("event %d holds a value: %.80s", e.Seq, e.Detail)
		}
	}

	given := filepath.Join(f.t.TempDir(), "value.json")
	f.must(os.WriteFile(given, large, 0o600))
	for range 2 { // it is there already, and is the same
		name, size, err := f.db.StageXComFile(given)
		f.must(err)
		f.same("size of a file", int64(len(large)), size)
		f.update(func(tx *store.Tx) error { return tx.PutXComFile(mapped, "file", name, size, 3) })
	}
	f.must(os.Remove(given))
	x, err := f.db.XCom(f.ctx, mapped, "file")
	f.must(err)
	f.same("value of a file", store.XCom{Key: mapped, Name: "file", Value: large, MapLength: 3, Size: int64(len(large)), At: x.At}, x)
	x, err = f.db.XComInPlace(f.ctx, mapped, "file")
	f.must(err)
	inPlace, err := os.ReadFile(x.File)
	f.must(err)
	f.same("value in place", true, x.Value == nil && bytes.Equal(large, inPlace))
	f.update(func(tx *store.Tx) error { return tx.DeleteXComs(mapped, "file") })
	x, err = f.db.XCom(f.ctx, k, "big")
	f.must(err)
	f.same("large value", true, bytes.Equal(large, x.Value))
	f.same("size", int64(len(large)), x.Size)
	x, err = f.db.XCom(f.ctx, k, "return_value")
	f.must(err)
	f.same("replaced value", store.XCom{Key: k, Name: "return_value", Value: json.RawMessage(`[1,2]`), MapLength: 2, Size: 5,
		At: f.now.Add(-5 * time.Second)}, x)
	_, err = f.db.XCom(f.ctx, k, "gone")
	f.isErr(store.ErrNotFound, err)
	xs, err := f.db.XComs(f.ctx, k, false)
	f.must(err)
	f.same("names without values", []string{"big", "return_value"}, names(xs))
	if xs[0].Value != nil || xs[1].Value != nil {
		f.t.Error("values were read though nobody asked")
	}
	xs, err = f.db.XComs(f.ctx, k, true)
	f.must(err)
	f.same("large value in a list", len(large), len(xs[0].Value))
	xs, err = f.db.XComsOfTask(f.ctx, "xcoms", "r1", "a", "return_value")
	f.must(err)
	f.same("over map indexes", []int{-1, 2}, []int{xs[0].Key.MapIndex, xs[1].Key.MapIndex})
	n, err := f.db.CountMappedXComs(f.ctx, "xcoms", "r1", "a", "return_value")
	f.must(err)
	f.same("of mapped instances", 1, n)
	x, err = f.db.MappedXCom(f.ctx, "xcoms", "r1", "a", "return_value", 0)
	f.must(err)
	f.same("the first of them", 2, x.Key.MapIndex)
	_, err = f.db.MappedXCom(f.ctx, "xcoms", "r1", "a", "return_value", 1)
	f.isErr(store.ErrNotFound, err)
	f.update(func(tx *store.Tx) error { return tx.DeleteXComs(k, "") })
	xs, err = f.db.XComs(f.ctx, k, true)
	f.must(err)
	f.same("after deleting all", 0, len(xs))
}

func names(xs []store.XCom) []string {
	var ns []string
	for _, x := range xs {
		ns = append(ns, x.Name)
	}
	return ns
}

func testCallbacks(f *fixture) {
	f.publish("callbacks", "a")
	_, tis := f.start("callbacks", "r1", "a")
	ofTask := plan.Callback{DAGID: "callbacks", RunID: "r1", Task: &tis[0].Key, AttemptID: "at-1", Kind: "on_retry_callback", Reason: "lost"}
	ofDAG := plan.Callback{DAGID: "callbacks", RunID: "r1", Kind: "on_failure_callback"}
	since := f.last()
	var first, second int64
	f.update(func(tx *store.Tx) (err error) {
		if first, err = tx.OweCallback(ofTask); err != nil {
			return err
		}
		second, err = tx.OweCallback(ofDAG)
		return err
	})
	created := f.now
	f.update(func(tx *store.Tx) error { return tx.CallbackTried(first) })
	owed, err := f.db.OwedCallbacks(f.ctx)
	f.must(err)
	f.same("owed", []store.OwedCallback{{ID: first, Callback: ofTask, Tries: 1, Created: created},
		{ID: second, Callback: ofDAG, Created: created}}, owed)
	f.update(func(tx *store.Tx) error { return tx.CallbackDone(first, "ValueError: no") })
	f.update(func(tx *store.Tx) error { return tx.CallbackDone(first, "") })
	f.same("events", []string{"callback.owed", "callback.owed", "callback.tried", "callback.done"}, f.eventsSince(since))
	owed, err = f.db.OwedCallbacks(f.ctx)
	f.must(err)
	f.same("still owed", 1, len(owed))
	f.wantErr(store.ErrNotFound, func(tx *store.Tx) error { return tx.CallbackDone(12345, "") })
}

func testLiveRuns(f *fixture) {
	f.publish("live", "a", "b")
	r1, _ := f.start("live", "r1", "a", "b")
	_, tis2 := f.start("live", "r2", "a", "b")
	f.finish(&r1, run.RunFailed)
	live, err := f.db.LiveRuns(f.ctx)
	f.must(err)
	r2, err := f.db.Run(f.ctx, "live", "r2")
	f.must(err)
	var mine []store.LiveRun
	for _, l := range live {
		if l.Run.DAGID == "live" {
			mine = append(mine, l)
		}
	}
	f.same("live runs", []store.LiveRun{{Run: r2, Instances: tis2}}, mine)
}

func (f *fixture) wantErr(want error, do func(*store.Tx) error) {
	f.t.Helper()
	f.isErr(want, f.try(do))
}

func (f *fixture) isErr(want, got error) {
	f.t.Helper()
	if !errors.Is(got, want) {
		f.t.Errorf("got error %v, want %v", got, want)
	}
}
