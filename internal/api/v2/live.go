package v2

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"ostro.dev/ostro/internal/api/v2/wire"
	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/store"
)

// Pace of a live stream: changes are gathered for so long, in a wide run longer, so that looking at all its instances takes
// a tenth of a processor at most. A quiet stream says so often that it is alive.
const (
	livePace  = 100 * time.Millisecond
	liveSlow  = 2 * time.Second
	livePing  = 15 * time.Second
	liveTail  = 5
	tailBytes = 64 << 10
)

// Live streams a DAG run as newline-delimited JSON (wire.Live): the run and all its instances, then what changes with
// every commit that touches them, the last lines of a failed attempt's log with its failure, and an end when the run has
// ended. The server waits for commits; nobody polls.
func (a *API) Live(w http.ResponseWriter, r *http.Request, dagID, runID string) {
	if _, err := a.dagRun(r.Context(), dagID, runID); err != nil {
		if cause := answerError(w, err); cause != nil {
			a.Log.Error("request", "path", r.URL.Path, "request", w.Header().Get("X-Request-Id"), "err", cause)
		}
		return
	}
	s := &stream{api: a, out: newLines(w), dagID: dagID, runID: runID, sent: map[run.Key]seen{}}
	if err := s.run(r.Context()); err != nil && r.Context().Err() == nil {
		a.Log.Warn("live stream ended early", "dag", dagID, "run", runID, "err", err)
	}
}

// seen is what the client knows of an instance.
type seen struct {
	version int64
	waiting string
}

type stream struct {
	api          *API
	out          *lines
	dagID, runID string
	row          run.DAGRun
	sent         map[run.Key]seen
}

func (s *stream) run(ctx context.Context) error {
	ping := time.NewTicker(livePing)
	defer ping.Stop()
	for {
		changed, began := s.api.Store.Changed(), time.Now()
		over, err := s.step(ctx)
		cost := time.Since(began)
		if err != nil || over {
			return err
		}
		select {
		case <-changed:
		case <-ping.C:
			if err := s.out.write(wire.Live{Type: "ping"}); err != nil {
				return err
			}
			continue
		case <-ctx.Done():
			return nil
		}
		if err := s.gather(ctx, min(10*cost, liveSlow)); err != nil {
			return err
		}
	}
}

// gather waits for what other commits follow at once, so long or until the run is over, and at least livePace.
func (s *stream) gather(ctx context.Context, long time.Duration) error {
	pace := time.NewTicker(livePace)
	defer pace.Stop()
	for until := time.Now().Add(long); ; {
		select {
		case <-pace.C:
		case <-ctx.Done():
			return nil // the request's end is seen by whoever looks next
		}
		if !time.Now().Before(until) {
			return nil
		}
		row, err := s.api.Store.Run(ctx, s.dagID, s.runID)
		if err != nil {
			return fmt.Errorf("load DAG run %s: %w", s.runID, err)
		}
		if finishedRun[row.State] {
			return nil
		}
	}
}

// step sends what is new and says whether the run is over.
func (s *stream) step(ctx context.Context) (over bool, err error) {
	row, err := s.api.Store.Run(ctx, s.dagID, s.runID)
	if err != nil {
		return false, fmt.Errorf("load DAG run %s: %w", s.runID, err)
	}
	v := s.api.view(ctx)
	v.runs[run.Key{DAGID: s.dagID, RunID: s.runID}] = row
	tis, _, err := s.api.Store.TaskInstances(ctx, store.TIFilter{DAGID: s.dagID, RunID: s.runID})
	if err != nil {
		return false, fmt.Errorf("list task instances of %s: %w", s.runID, err)
	}
	msg := wire.Live{Type: "tasks"}
	for _, ti := range tis {
		if was, ok := s.sent[ti.Key]; ok && was.version == ti.Version && !mayWait(ti.State) {
			continue
		}
		w, err := v.wireTI(ti)
		if err != nil {
			return false, err
		}
		now := seen{version: ti.Version, waiting: w.Ostro.Waiting}
		if s.sent[ti.Key] == now {
			continue
		}
		fresh := s.sent[ti.Key].version != ti.Version
		s.sent[ti.Key] = now
		msg.Tasks = append(msg.Tasks, w)
		if fresh && (ti.State == run.Failed || ti.State == run.UpForRetry) {
			s.addTail(&msg, ti)
		}
	}
	over = finishedRun[row.State]
	if row.Version != s.row.Version || s.row.RunID == "" {
		w, err := v.wireRun(row)
		if err != nil {
			return false, err
		}
		msg.Type, msg.Run, s.row = "run", &w, row
	}
	if over {
		msg.Type = "end"
	}
	if msg.Run == nil && msg.Tasks == nil && !over {
		return false, nil
	}
	return over, s.out.write(msg)
}

func (s *stream) addTail(msg *wire.Live, ti run.TaskInstance) {
	tail, err := tailLog(s.api.LogRoot, ti.Key, ti.TryNumber)
	if err != nil {
		s.api.Log.Debug("read the end of a log", "task", ti.TaskID, "err", err)
		return
	}
	if len(tail) == 0 {
		return
	}
	if msg.Logs == nil {
		msg.Logs = map[string][]string{}
	}
	msg.Logs[wire.InstanceName(ti.TaskID, ti.MapIndex)] = tail
}

// fatalError is how Python begins to say where it crashed, the innermost call first.
const fatalError = "Fatal Python error: "

// failureEvent is how the record begins that a task's runtime logs of what ended the attempt.
const failureEvent = "Task failed with exception"

// tailLog is the last lines of what ended an attempt: of the record that says so, whatever was printed after it, by a
// callback for instance; without one, the first lines of where Python crashed, else the last of the whole log.
func tailLog(root string, k run.Key, try int) ([]string, error) {
	file, err := openLog(root, k, try)
	if err != nil || file == nil {
		return nil, err
	}
	defer file.close()
	info, err := file.f.Stat()
	if err != nil {
		return nil, fmt.Errorf("read the end of a log: %w", err)
	}
	from := max(info.Size()-tailBytes, 0)
	if err := file.seek(from); err != nil {
		return nil, fmt.Errorf("read the end of a log: %w", err)
	}
	var out, failure, crash []string
	for first := true; ; first = false {
		line, err := file.next(true)
		if err != nil { // the end
			for _, found := range [][]string{failure, crash, out} {
				if found != nil {
					return found, nil
				}
			}
			return nil, nil
		}
		if first && from > 0 { // a piece of a line
			continue
		}
		if line.Event == "" || line.Stream == "system" {
			continue
		}
		for text := range strings.Lines(line.Event) { // a traceback is one event of many lines
			if text = strings.TrimRight(text, " \r\n"); text != "" {
				out = append(out, text)
				if crash != nil && len(crash) < liveTail || strings.HasPrefix(text, fatalError) {
					crash = append(crash, text)
				}
			}
		}
		out = out[max(len(out)-liveTail, 0):]
		if line.Stream == "log" && line.Logger == "airflow.task" && strings.HasPrefix(line.Event, failureEvent) {
			failure = slices.Clone(out)
		}
	}
}
