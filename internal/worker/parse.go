package worker

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"ostro.dev/ostro/internal/core/excerpt"
	"ostro.dev/ostro/internal/daghost"
	"ostro.dev/ostro/internal/workerapi"
	"ostro.dev/ostro/protocol"
)

const (
	defaultParseTimeout = 30 * time.Second
	memoryWatch         = 20 * time.Millisecond // how often an import's memory is looked at
)

// Parse imports a file in a new host, within limits of time and memory, and says what it declares. The host stays a
// moment, for a launch or another question that may follow. Whatever happens to the host is an import error; the error that is
// returned beside it says what it was.
func (p *pool) Parse(ctx context.Context, r workerapi.Parse) (workerapi.Parsed, error) {
	for try := 1; ; try++ {
		parsed, err := p.parse(ctx, r)
		if err == nil || !hostKilled(err) || try == 3 { // who kills a host says nothing about the file
			return parsed, err
		}
	}
}

func (p *pool) parse(ctx context.Context, r workerapi.Parse) (workerapi.Parsed, error) {
	k := p.Key(r.Interpreter, r.Version, r.Describe.BundlePath, r.Describe.File, r.Describe.Compat)
	limit := defaultParseTimeout
	if r.TimeoutSeconds > 0 {
		limit = time.Duration(r.TimeoutSeconds * float64(time.Second))
	}
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return parseFailed(r, errStopping, ""), errStopping
	}
	h := p.add(k)
	p.use(h)
	p.mu.Unlock()
	defer p.Release(h)

	// The time limit is the import's: waiting for a turn to start does not count.
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := context.AfterFunc(p.ctx, func() { cancel(errStopping) })
	defer stop()
	p.bringUp(ctx, h, r.Describe, func(proc *daghost.Host) func() {
		return watchImport(proc, limit, r.MemoryBytes, cancel)
	})
	if h.err != nil {
		failed := parseFailed(r, h.err, h.output)
		failed.Described.Variables, failed.Described.Connections = h.asking.names() // a change of one is a reason to try again
		return failed, h.err
	}
	p.mu.Lock()
	if old := p.hosts[k]; !h.retired && k.generation == p.generation {
		if old != nil {
			p.retire(old)
		}
		p.hosts[k] = h
	}
	p.mu.Unlock()
	return workerapi.Parsed{Type: "Parsed", Described: *h.known, Output: h.output}, nil
}

// Evaluate asks the timetable of a DAG in its file's host. What keeps it from answering is the answer.
func (p *pool) Evaluate(ctx context.Context, r workerapi.Evaluate) workerapi.Evaluated {
	out := workerapi.Evaluated{Type: "Evaluated", Answer: protocol.TimetableAnswer{Type: "TimetableAnswer"}}
	h, err := p.Acquire(ctx, p.Key(r.Interpreter, r.Version, r.Describe.BundlePath, r.Describe.File, r.Describe.Compat), r.Describe)
	if err != nil {
		out.Answer.Error = err.Error()
		return out
	}
	defer p.Release(h)
	answer, err := h.proc.Timetable(ctx, r.Question)
	if err != nil {
		out.Answer.Error = err.Error()
		return out
	}
	out.Answer = *answer
	out.Answer.Error, out.Answer.Traceback = excerpt.Of(answer.Error, excerpt.Reason), excerpt.Of(answer.Traceback, excerpt.Traceback)
	return out
}

var errOverdue = errors.New("took longer than")

// watchImport ends an import that takes too long or too much memory; the cause says which. The returned function ends
// the watch.
func watchImport(proc *daghost.Host, limit time.Duration, memory int64, cancel context.CancelCauseFunc) func() {
	base, _ := daghost.ResidentBytes(proc.PID())
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		timeout := time.NewTimer(limit)
		defer timeout.Stop()
		tick := time.NewTicker(memoryWatch)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-timeout.C:
				cancel(fmt.Errorf("the import %w %s and was ended", errOverdue, shortDuration(limit)))
				proc.Kill()
				return
			case <-tick.C:
				now, _ := daghost.ResidentBytes(proc.PID())
				if memory > 0 && now-base > memory {
					cancel(fmt.Errorf("the import used more than %s of memory and was ended", shortBytes(memory)))
					proc.Kill()
					return
				}
			}
		}
	})
	return func() { close(done); wg.Wait() }
}

func parseFailed(r workerapi.Parse, err error, output string) workerapi.Parsed {
	fault := protocol.ImportError{File: r.Describe.File, Message: excerpt.Of(err.Error(), excerpt.Reason)}
	var end *importEnd
	if errors.As(err, &end) {
		fault.Traceback, fault.Line = withoutRuntime(r.Describe.File, output), lineOf(r.Describe.File, output)
	}
	return workerapi.Parsed{Type: "Parsed", Output: output, Again: hostKilled(err) || errors.Is(err, errOverdue), Described: protocol.Described{
		Type: "Described", Errors: []protocol.ImportError{fault},
	}}
}

// An importEnd is the end of a process by the file that it was importing.
type importEnd struct {
	file string
	end  *daghost.EndError
}

// Error says what happened and what to do.
func (e *importEnd) Error() string {
	var text string
	switch signal, killed := strings.CutPrefix(e.end.Ending, "killed by "); {
	case !killed:
		text = fmt.Sprintf("importing %s ended the process with %s, as os._exit does; a DAG file only declares, leave the rest to its tasks",
			e.file, e.end.Ending)
	case signal == "SIGKILL" || signal == "SIGTERM":
		text = fmt.Sprintf("the process that imported %s was ended by %s: somebody killed it, or the kernel did because memory ran out "+
			"(see dmesg); move what needs much memory into tasks", e.file, signal)
	default:
		text = fmt.Sprintf("importing %s crashed the process (%s), most often in the native code of a module it imports; try "+
			"python -X faulthandler %s", e.file, signal, e.file)
	}
	if e.end.Output != "" && !strings.Contains(e.end.Output, " File ") {
		text += "; it printed last: " + e.end.Output
	}
	return text
}

// Unwrap returns how the process ended.
func (e *importEnd) Unwrap() error { return e.end }

// runtimeFrame is a line of a report of a crash about a frame of Ostro's runtime or of Python's import machinery.
var runtimeFrame = regexp.MustCompile(`^\s*File "(?:<frozen |[^"]*/ostro/\w+\.py")`)

// withoutRuntime drops those lines from what an import printed, except for frames of the file itself.
func withoutRuntime(file, output string) string {
	var out []string
	for line := range strings.Lines(output) {
		if !runtimeFrame.MatchString(line) || strings.Contains(line, "/"+file+`"`) {
			out = append(out, line)
		}
	}
	return strings.TrimSpace(strings.Join(out, ""))
}

// lineOf finds the line of a file that a report of a crash names first, 0 if it names none.
func lineOf(file, output string) int {
	found := regexp.MustCompile(`(?m)^\s*File "[^"]*` + regexp.QuoteMeta(filepath.Base(file)) + `", line (\d+)`).FindStringSubmatch(output)
	if found == nil {
		return 0
	}
	line, _ := strconv.Atoi(found[1])
	return line
}

// shortDuration writes 30s, 1m30s, 2h without zero parts.
func shortDuration(d time.Duration) string {
	s := d.String()
	for _, zero := range []string{"m0s", "h0m"} {
		if len(s) > len(zero) && s[len(s)-len(zero):] == zero {
			s = s[:len(s)-2]
		}
	}
	return s
}

// shortBytes writes 1 GiB, 512 MiB, 1000 bytes.
func shortBytes(n int64) string {
	for _, u := range []struct {
		size int64
		name string
	}{{1 << 30, "GiB"}, {1 << 20, "MiB"}, {1 << 10, "KiB"}} {
		if n >= u.size {
			if n%u.size == 0 {
				return fmt.Sprintf("%d %s", n/u.size, u.name)
			}
			return fmt.Sprintf("%.1f %s", float64(n)/float64(u.size), u.name)
		}
	}
	return fmt.Sprintf("%d bytes", n)
}
