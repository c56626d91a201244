package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"ostro.dev/ostro/internal/daghost"
	"ostro.dev/ostro/internal/workerapi"
	"ostro.dev/ostro/protocol"
)

const (
	parseIdle      = 5 * time.Second  // how long a host that only described its file stays
	defaultIdle    = 60 * time.Second // how long one that ran tasks stays, unless the settings say
	defaultBudget  = int64(1) << 30   // memory of all idle hosts together, unless the settings say
	importLimit    = 10 * time.Minute // for the import before a launch; a parse has its own limit
	hostStartLimit = 60 * time.Second
	hostGrace      = 2 * time.Second
	slowImport     = 2 * time.Second // after which others may start beside it
	codeMemory     = 4096            // versions of files of which is remembered that they cannot be forked or preloaded
)

// A hostKey names what a host has imported. Hosts with equal keys are interchangeable.
type hostKey struct {
	interpreter, version, path, file, compat string
	generation                               int // of the settings that reach a host's environment
}

// A codeKey names code whose forks do not work, whatever the settings.
type codeKey struct{ interpreter, version, file string }

func (k hostKey) code() codeKey { return codeKey{k.interpreter, k.version, k.file} }

// A pool keeps warm hosts: those in use, and idle ones within a time and a memory budget.
type pool struct {
	logger   *slog.Logger
	launcher *daghost.Launcher
	base     func() []string // environment of every host
	dir      string
	server   func(ctx context.Context, bundle string, request json.RawMessage) (json.RawMessage, error) // asked by imports

	ctx    context.Context // ends with the pool
	cancel context.CancelFunc
	work   sync.WaitGroup
	starts chan struct{} // limits how many hosts start at once

	mu         sync.Mutex
	settings   workerapi.Settings
	generation int
	hosts      map[hostKey]*host
	all        map[*host]bool              // those replaced in hosts but still in use, too
	demoted    *memory[codeKey, string]    // why code is spawned
	losses     *memory[codeKey, time.Time] // when a host of it was lost while its tasks ran, the last time
	learning   *memory[codeKey, bool]      // a better host is coming up, or preloading does not work for this code
	trimming   bool
	closed     bool
}

// A host is one warm process and who uses it.
type host struct {
	key    hostKey
	asked  protocol.Describe
	asking asking
	ready  chan struct{} // closed when the import has ended; what follows is set then
	proc   *daghost.Host
	known  *protocol.Described
	output string // what the import printed
	err    error
	over   chan struct{} // closed when the process is gone and the pool has drawn its conclusions

	// Guarded by pool.mu.
	users   int
	ran     bool // a task, not only a description
	idle    time.Time
	expiry  *time.Timer
	retired bool

	spares spares
	logger *slog.Logger

	mu    sync.Mutex
	exits map[string]chan protocol.Exited // by fork id
}

func newPool(logger *slog.Logger, l *daghost.Launcher, dir string, base func() []string) *pool {
	ctx, cancel := context.WithCancel(context.Background())
	return &pool{
		logger: logger, launcher: l, dir: dir, base: base, ctx: ctx, cancel: cancel,
		starts: make(chan struct{}, max(2, runtime.NumCPU())),
		hosts:  map[hostKey]*host{}, all: map[*host]bool{},
		demoted: newMemory[codeKey, string](codeMemory), losses: newMemory[codeKey, time.Time](codeMemory), learning: newMemory[codeKey, bool](codeMemory),
	}
}

// Configure takes new settings. Hosts whose environment would be another now are used no more.
func (p *pool) Configure(s workerapi.Settings) {
	p.mu.Lock()
	defer p.mu.Unlock()
	old := p.settings
	p.settings = s
	if old.Python == s.Python && old.RuntimePath == s.RuntimePath && equalMaps(old.Env, s.Env) &&
		slices.Equal(old.PreloadModule, s.PreloadModule) {
		return
	}
	p.generation++
	for _, h := range p.hosts {
		p.retire(h)
	}
}

func equalMaps(a, b map[string]string) bool {
	if len(a) != len(b) {
		return false
	}
	for k, v := range a {
		if w, ok := b[k]; !ok || v != w {
			return false
		}
	}
	return true
}

// Key makes the key of a host; an empty interpreter is the settings'.
func (p *pool) Key(interpreter, version, path, file, compat string) hostKey {
	p.mu.Lock()
	defer p.mu.Unlock()
	if interpreter == "" {
		interpreter = p.settings.Python
	}
	return hostKey{interpreter, version, path, file, compat, p.generation}
}

// Spec says how processes for code are started.
func (p *pool) Spec(k hostKey) daghost.Spec {
	p.mu.Lock()
	defer p.mu.Unlock()
	env := p.base()
	for name, v := range p.settings.Env {
		env = setEnv(env, name, v)
	}
	return daghost.Spec{Interpreter: k.interpreter, Runtime: p.settings.RuntimePath, Dir: p.dir, Env: env}
}

// setEnv sets a variable in an environment list.
func setEnv(env []string, name, value string) []string {
	env = slices.DeleteFunc(env, func(v string) bool { return strings.HasPrefix(v, name+"=") })
	return append(env, name+"="+value)
}

// Acquire returns a host that has imported d's file, starting one if there is none. The caller releases it.
func (p *pool) Acquire(ctx context.Context, k hostKey, d protocol.Describe) (*host, error) {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil, errStopping
	}
	h := p.hosts[k]
	if h == nil {
		h = p.add(k)
		p.hosts[k] = h
		p.work.Go(func() {
			ctx, cancel := context.WithTimeoutCause(p.ctx, importLimit, fmt.Errorf("the import took longer than %v", importLimit))
			defer cancel()
			p.bringUp(ctx, h, d, nil)
		})
	}
	p.use(h)
	h.ran = true
	p.mu.Unlock()
	select {
	case <-h.ready:
	case <-ctx.Done():
		p.Release(h)
		return nil, context.Cause(ctx)
	}
	if h.err != nil {
		p.Release(h)
		return nil, h.err
	}
	return h, nil
}

// add makes a host that is not ready yet, with the lock held.
func (p *pool) add(k hostKey) *host {
	h := &host{key: k, ready: make(chan struct{}), over: make(chan struct{}), exits: map[string]chan protocol.Exited{}, logger: p.logger}
	h.spares = spares{h: h, ctx: p.ctx, work: &p.work, retire: p.Retire}
	p.all[h] = true
	return h
}

// bringUp starts the process and has it import the file. watch, if any, is called with the running process and may end
// the import by ending ctx's parent; its returned function is called after the import.
func (p *pool) bringUp(ctx context.Context, h *host, d protocol.Describe, watch func(*daghost.Host) func()) {
	defer close(h.ready)
	h.asked = d
	h.asking.server, h.asking.bundle = p.server, d.BundleName
	fail := func(err error) {
		h.err = err
		p.mu.Lock()
		p.retire(h)
		p.mu.Unlock()
	}
	select {
	case p.starts <- struct{}{}:
		release := sync.OnceFunc(func() { <-p.starts })
		defer release()
		defer time.AfterFunc(slowImport, release).Stop() // a file that waits for something must not hold up all others
	case <-ctx.Done():
		fail(context.Cause(ctx))
		return
	}
	startCtx, cancel := context.WithTimeoutCause(ctx, hostStartLimit, errors.New("the DAG host did not answer"))
	spec := p.Spec(h.key)
	spec.Ask, spec.Mask = h.asking.Ask, h.asking.Mask
	proc, err := daghost.Start(startCtx, p.launcher, spec, h.exited)
	if err != nil && startCtx.Err() != nil {
		err = fmt.Errorf("%w (%w)", context.Cause(startCtx), err)
	}
	cancel()
	if err != nil {
		fail(err)
		return
	}
	p.mu.Lock()
	h.proc = proc
	unwanted := h.retired && h.users == 0
	p.mu.Unlock()
	p.work.Go(func() { // a host that is gone is used no more
		defer close(h.over)
		<-proc.Done()
		p.mu.Lock()
		defer p.mu.Unlock()
		p.noteLoss(h)
		p.retire(h)
		delete(p.all, h)
	})
	if unwanted {
		proc.Kill()
		h.err = errStopping
		return
	}
	done := func() {}
	if watch != nil {
		done = watch(proc)
	}
	known, err := proc.Describe(ctx, d)
	done()
	places := placesIn(d.BundlePath, d.ShownPath)
	h.output = places(h.asking.masker.Mask(proc.TakeOutput()))
	var end *daghost.EndError
	if errors.As(err, &end) {
		end.Output = places(h.asking.masker.Mask(end.Output))
		err = &importEnd{file: d.File, end: end}
	}
	if ctx.Err() != nil {
		err = h.asking.because(context.Cause(ctx))
	}
	if err != nil {
		proc.Kill()
		fail(err)
		return
	}
	h.asking.clean(known)
	showPlaces(known, places)
	h.known = known
}

// use begins a use, with the lock held. Uses are part of the pool's work: Close waits for their Release.
func (p *pool) use(h *host) {
	h.users++
	p.work.Add(1)
}

// Release ends a use. An unused host stays for its idle time.
func (p *pool) Release(h *host) {
	defer p.work.Done()
	p.mu.Lock()
	defer p.mu.Unlock()
	h.users--
	if h.users > 0 {
		return
	}
	if h.retired {
		p.end(h)
		return
	}
	idle := parseIdle
	if h.ran {
		idle = defaultIdle
		if p.settings.HostIdle > 0 {
			idle = time.Duration(p.settings.HostIdle * float64(time.Second))
		}
	}
	h.idle = time.Now()
	if h.expiry == nil {
		h.expiry = time.AfterFunc(idle, func() { p.expire(h) })
	} else {
		h.expiry.Reset(idle)
	}
	if !p.trimming {
		p.trimming = true
		time.AfterFunc(time.Second, p.trim)
	}
}

func (p *pool) expire(h *host) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if h.users == 0 && !p.closed {
		p.retire(h)
	}
}

// retire takes a host out of use, with the lock held; it ends when its last user is gone.
func (p *pool) retire(h *host) {
	if p.hosts[h.key] == h {
		delete(p.hosts, h.key)
	}
	if h.retired {
		return
	}
	h.retired = true
	h.spares.Close()
	if h.expiry != nil {
		h.expiry.Stop()
	}
	if h.users == 0 {
		p.end(h)
	}
}

// end shuts a retired host without users down, with the lock held.
func (p *pool) end(h *host) {
	proc := h.proc
	if proc == nil {
		delete(p.all, h)
		return
	}
	select {
	case <-proc.Done():
		return
	default:
	}
	p.logger.Debug("ending an idle host", "file", h.key.file, "pid", proc.PID())
	p.work.Go(func() { proc.Shutdown(hostGrace) })
}

// trim ends the idle hosts used longest ago until the others fit in the memory budget.
func (p *pool) trim() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.trimming = false
	if p.closed {
		return
	}
	budget := p.settings.HostMemory
	if budget <= 0 {
		budget = defaultBudget
	}
	var idle []*host
	for _, h := range p.hosts {
		if h.users == 0 && h.proc != nil {
			idle = append(idle, h)
		}
	}
	slices.SortFunc(idle, func(a, b *host) int { return b.idle.Compare(a.idle) })
	var used int64
	for _, h := range idle {
		_, private := daghost.ResidentBytes(h.proc.PID())
		if used += private; used > budget {
			p.retire(h)
		}
	}
}

// Learn hears which large modules a task had to import although its host might have had them. A host that has them is
// brought up beside the one in use and takes over for later attempts: importing torch costs seconds, forking a process
// that has it milliseconds.
func (p *pool) Learn(h *host, modules []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	code := h.key.code()
	d := h.asked
	d.Preload = slices.Clone(d.Preload)
	for _, m := range modules {
		if !slices.Contains(d.Preload, m) && len(d.Preload) < 64 {
			d.Preload = append(d.Preload, m)
		}
	}
	learning, _ := p.learning.Get(code)
	if p.closed || learning || h.retired || p.hosts[h.key] != h || len(d.Preload) == len(h.asked.Preload) {
		return
	}
	p.learning.Put(code, true)
	better := p.add(h.key)
	p.use(better)
	better.ran = true
	p.work.Go(func() {
		ctx, cancel := context.WithTimeout(p.ctx, importLimit)
		defer cancel()
		p.bringUp(ctx, better, d, nil)
		p.replace(h, better, modules)
		p.Release(better)
	})
}

// replace has a host with more modules loaded take over from h, if it works.
func (p *pool) replace(h, better *host, modules []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if better.err != nil || better.known.ForkUnsafe != "" {
		why := "it does not come up"
		if better.err == nil {
			why = better.known.ForkUnsafe
		}
		p.logger.Info("a file's modules cannot be preloaded", "file", h.key.file, "modules", modules, "why", why)
		p.retire(better)
		return // and learning stays set: no second try
	}
	p.learning.Put(h.key.code(), false)
	if p.hosts[h.key] != h || p.closed {
		p.retire(better)
		return
	}
	p.retire(h)
	p.hosts[better.key] = better
	p.logger.Info("preloaded what tasks import", "file", h.key.file, "modules", modules)
}

// Close ends every host and waits, also for the uses that are not released yet; nothing can begin one any more.
func (p *pool) Close() {
	p.mu.Lock()
	p.closed = true
	for h := range p.all {
		p.retire(h)
	}
	p.mu.Unlock()
	p.cancel()
	p.work.Wait()
}

// exited hands the end of a task process to whoever waits for it.
func (h *host) exited(e protocol.Exited) {
	h.mu.Lock()
	ch := h.exits[e.ForkID]
	delete(h.exits, e.ForkID)
	h.mu.Unlock()
	if ch != nil {
		ch <- e
	}
}

// expectExit must be called before the fork.
func (h *host) expectExit(forkID string) <-chan protocol.Exited {
	ch := make(chan protocol.Exited, 1)
	h.mu.Lock()
	h.exits[forkID] = ch
	h.mu.Unlock()
	return ch
}

// forgetExit is for a process that the host has not forked after all.
func (h *host) forgetExit(forkID string) {
	h.mu.Lock()
	delete(h.exits, forkID)
	h.mu.Unlock()
}

// serves says why a host's file does not provide a DAG, in one line and in full; nil when it does.
func (h *host) serves(dagID string) *protocol.ImportError {
	for i := range h.known.DAGs {
		if h.known.DAGs[i].ID == dagID {
			return nil
		}
	}
	for _, e := range h.known.Errors {
		if e.DAGID == "" || e.DAGID == dagID {
			return &e
		}
	}
	return &protocol.ImportError{
		File: h.key.file, DAGID: dagID,
		Message: fmt.Sprintf("the file %s does not define the DAG %s when it is imported here", h.key.file, dagID),
	}
}

// baseEnv is this process's environment without what belongs to an attempt or to this process, with the worker's marks.
func baseEnv(home, instance string) []string {
	var env []string
	for _, v := range os.Environ() {
		name, _, _ := strings.Cut(v, "=")
		switch {
		case strings.HasPrefix(name, "OSTRO_"), strings.HasPrefix(name, "AIRFLOW_CTX_"):
		default:
			env = append(env, v)
		}
	}
	return append(env, "OSTRO_HOME="+home, daghost.EnvHome+"="+home, daghost.EnvInstance+"="+instance)
}
