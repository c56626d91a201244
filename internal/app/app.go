// Package app is the composition root: it makes the parts of a server from a configuration, starts them in order and
// stops them in order. The command line and tests use it; nothing else knows all the parts.
package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"ostro.dev/ostro/internal/api"
	v2 "ostro.dev/ostro/internal/api/v2"
	"ostro.dev/ostro/internal/bundle"
	"ostro.dev/ostro/internal/config"
	"ostro.dev/ostro/internal/devs3"
	"ostro.dev/ostro/internal/executor"
	"ostro.dev/ostro/internal/executor/local"
	"ostro.dev/ostro/internal/scheduler"
	"ostro.dev/ostro/internal/secret"
	"ostro.dev/ostro/internal/store"
	"ostro.dev/ostro/internal/taskapi"
	"ostro.dev/ostro/internal/worker"
	"ostro.dev/ostro/internal/workerapi"
	"ostro.dev/ostro/python"
)

// Options are what New needs beside the configuration. The zero value is what the program itself uses.
type Options struct {
	// Version and Revision are what the program says it is.
	Version, Revision string
	// WorkerBinary is the program that runs `worker --home HOME`; empty: this one.
	WorkerBinary string
	// Spawn starts a worker instead of WorkerBinary, for tests.
	Spawn func(ctx context.Context) (ended <-chan struct{}, err error)
	// Replace has a server that runs on the same home hand over to this one.
	Replace bool
}

// An App is a whole server. Create it with New, then call Run once, or Close if Run is never called.
type App struct {
	cfg  config.Config
	opts Options
	log  *slog.Logger
	home home

	lock     *os.File
	control  *net.UnixListener
	listener net.Listener
	token    string
	store    *store.DB
	s3       *devs3.Server
	exec     *local.Executor
	sched    *scheduler.Scheduler
	bundle   *bundle.Watcher
	http     *http.Server
	conns    *openConns

	streams   context.CancelFunc // ends the requests under way that only read
	ready     chan struct{}
	begun     chan struct{} // closed when Run has begun
	orders    stopOrders
	stopped   chan struct{} // closed when everything has stopped
	answered  func()        // waits until all who asked for the stop are answered; nil: nobody could ask
	announced bool          // HOME/run/server.json is ours
	socket    *os.File      // the listening socket, kept for the successor
	report    StopReport
	replaced  *Replaced
}

// New takes the home folder and the port and wires everything; nothing runs yet.
func New(cfg config.Config, logger *slog.Logger, opts Options) (_ *App, err error) {
	abs, err := filepath.Abs(cfg.Home)
	if err != nil || cfg.Home == "" {
		return nil, fmt.Errorf("the home folder %q cannot be used: %w", cfg.Home, errors.Join(err, os.ErrInvalid))
	}
	a := &App{cfg: cfg, opts: opts, log: logger, home: home(abs), ready: make(chan struct{}), streams: func() {},
		begun: make(chan struct{}), orders: stopOrders{asked: make(chan struct{})}, stopped: make(chan struct{})}
	defer func() {
		if err != nil {
			a.report.Failed = true
			err = errors.Join(a.afterReplacing(err), a.Close())
		}
	}()
	if err := a.home.prepare(); err != nil {
		return nil, err
	}
	if err := a.take(); err != nil {
		return nil, err
	}
	if a.control, err = listenControl(a.home); err != nil {
		return nil, err
	}
	a.answered = a.serveControl()
	if a.token, err = a.home.token(); err != nil {
		return nil, err
	}
	if err := a.openStore(); err != nil {
		return nil, err
	}
	if err := a.lead(); err != nil {
		return nil, err
	}
	if err := a.wire(); err != nil {
		return nil, err
	}
	return a, nil
}

// take takes the home and the port, from a server that runs when Options ask for it.
func (a *App) take() (err error) {
	if a.opts.Replace {
		return a.replace()
	}
	if a.lock, err = a.home.lock(); err != nil {
		return err
	}
	a.listener, err = listen(a.cfg.Host, a.cfg.Port)
	return err
}

// openStore opens the control database with secrets sealed by the key in the home folder.
func (a *App) openStore() error {
	box, err := secret.OpenBox(a.home.path("secret.key"))
	if err != nil {
		return err
	}
	const place = "control.db"
	a.store, err = store.Open(context.Background(), store.Options{
		URL: a.cfg.Database, Path: a.home.path("control.db"), BlobDir: a.home.path("blobs"),
		Seal: func(b []byte) ([]byte, error) {
			text, err := box.Seal(place, b)
			return []byte(text), err
		},
		Open: func(b []byte) ([]byte, error) { return box.Open(place, string(b)) },
		Renewed: func(what, name string) {
			if a.bundle != nil { // DAG files that read it while they are imported are parsed again
				a.bundle.Renewed(what, name)
			}
		},
	})
	return err
}

// wire makes the parts that need each other.
func (a *App) wire() error {
	if err := os.MkdirAll(a.cfg.DAGs, 0o755); err != nil {
		return fmt.Errorf("make the DAG folder: %w", err)
	}
	runtime, err := python.Extract(a.home.path("runtime"))
	if err != nil {
		return err
	}
	if dev := a.cfg.S3.Dev; dev != nil && *dev {
		addr := net.JoinHostPort("127.0.0.1", fmt.Sprint(a.cfg.S3.Port))
		if a.s3, err = devs3.Start(context.Background(), devs3.Options{
			Dir: a.home.path("s3"), Addr: addr, Region: a.cfg.S3.Region, Logger: a.log.With("part", "s3"),
		}); err != nil {
			return fmt.Errorf("start the S3 endpoint for tasks: %w", err)
		}
	}
	a.exec = local.New(local.Options{
		Home: string(a.home), Settings: a.workerSettings(runtime), Logger: a.log.With("part", "executor"),
		Binary: a.opts.WorkerBinary, Spawn: a.opts.Spawn, Version: Build(a.opts.Version, a.opts.Revision),
		Process: func() (pid int, stopped, known bool) {
			p, known := worker.Find(string(a.home))
			return p.PID, p.Stopped(), known
		},
		Running: func() []string { return worker.Running(string(a.home)) },
		End: func(ctx context.Context, grace time.Duration) (*workerapi.Stopped, error) {
			return worker.End(ctx, string(a.home), grace, a.log.With("part", "executor"))
		},
	})
	key, err := a.home.tokenKey()
	if err != nil {
		return err
	}
	a.sched = scheduler.New(a.schedulerConfig(key), a.store, []executor.Executor{a.exec}, a.log.With("part", "scheduler"))
	if a.bundle, err = bundle.New(a.bundleConfig(), a.store, a.exec, a.sched.DAGsChanged, a.log.With("part", "bundle")); err != nil {
		return err
	}
	return a.wireHTTP()
}

func (a *App) wireHTTP() error {
	shown, err := filepath.Abs(a.cfg.DAGs)
	if err != nil {
		return err
	}
	ip := net.ParseIP(a.cfg.Host)
	ctx, cancel := context.WithCancel(context.Background())
	a.streams = cancel
	handler, err := api.New(api.Options{
		Options: v2.Options{
			Store: a.store, Scheduler: a.sched, LogRoot: a.home.path("logs"), DAGsRoot: shown,
			Version: a.opts.Version, Revision: a.opts.Revision, Health: a.health, Encrypted: true,
			Warnings: a.warnings, Published: a.bundle.Ready(), Ending: ctx.Done(), Deleted: a.bundle.Republish,
			MaxActiveTasks: a.cfg.Scheduler.MaxActiveTasksPerDAG, MaxActiveRuns: a.cfg.Scheduler.MaxActiveRunsPerDAG,
			Log: a.log.With("part", "api"),
		},
		Token: a.token, Loopback: a.cfg.Host == "localhost" || (ip != nil && ip.IsLoopback()),
		Home: string(a.home), DAGs: shown,
	})
	if err != nil {
		return err
	}
	a.http = api.NewServer(ctx, finishWrites(handler), a.log.With("part", "api"))
	a.conns = newOpenConns()
	a.http.ConnState = a.conns.track
	return nil
}

// finishWrites lets requests that change something come to their end while the server stops: what was done is answered.
func finishWrites(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			r = r.WithContext(context.WithoutCancel(r.Context()))
		}
		next.ServeHTTP(w, r)
	})
}

// Build names a build of the program, for a server to tell a worker of its own build from another.
func Build(version, revision string) string {
	if revision == "" {
		return version
	}
	return version + "+" + revision
}

func (a *App) health() v2.Health {
	return v2.Health{
		Scheduler: a.sched.LastTurn(), DagProcessor: a.bundle.LastTurn(), WorkerInstance: a.exec.Instance(),
		Stuck: a.sched.Problem(), Problem: a.exec.Problem(),
	}
}

// warnings are what DAG files were accepted with, and timetables that fail.
func (a *App) warnings() []bundle.Warning {
	out := a.bundle.Warnings()
	for _, f := range a.sched.TimetableFaults() {
		out = append(out, bundle.Warning{File: f.File, DAGIDs: []string{f.DAGID}, Message: f.Message, At: f.At})
	}
	return out
}

// sink is what executors report to: the scheduler, and the task API for tasks' calls.
type sink struct {
	*scheduler.Scheduler
	*taskapi.Service
}

// URL is where the server answers.
func (a *App) URL() string {
	if a.cfg.BaseURL != "" && a.cfg.Port != 0 { // with port 0 only the listener knows it
		return a.cfg.BaseURL
	}
	return "http://" + a.listener.Addr().String()
}

// Token is what requests must carry.
func (a *App) Token() string { return a.token }

// Ready is closed when the server answers requests and folds commands. The DAG folder may still be being read:
// see Published.
func (a *App) Ready() <-chan struct{} { return a.ready }

// Published is closed when the DAG folder has been read for the first time.
func (a *App) Published() <-chan struct{} { return a.bundle.Ready() }

// Report says what the stop did; it is complete when Run has returned.
func (a *App) Report() StopReport { return a.report }

// Run serves until ctx ends or Stop is called, then stops in order. An error is one that made it stop early, or not well.
func (a *App) Run(ctx context.Context) error {
	r := &running{app: a, failed: make(chan error, 8)}
	close(a.begun)
	r.start("lease", &r.lease, a.keepLead)
	r.start("scheduler", &r.scheduler, a.sched.Run)
	select {
	case <-a.sched.Ready():
	case err := <-r.failed:
		return errors.Join(err, r.stop(a.order(stopOrder{mode: EndTasks})))
	case <-ctx.Done():
		return r.stop(a.order(stopOrder{mode: EndTasks}))
	case <-a.orders.asked:
		return r.stop(a.order(stopOrder{}))
	}
	calls := taskapi.New(a.store, a.sched, a.home.path("run", "scratch"), a.log.With("part", "taskapi"))
	r.start("executor", &r.executor, func(ctx context.Context) error { return a.exec.Run(ctx, sink{a.sched, calls}) })
	r.start("bundle", &r.bundle, a.bundle.Run)
	r.start("http", &r.http, func(context.Context) error {
		if err := a.http.Serve(a.listener); !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil
	})
	if err := a.announce(); err != nil {
		a.log.Error("other commands find this server by its port only, until this works", "error", err)
		r.start("announcement", &r.announcement, a.keepAnnouncing)
	}
	a.log.Info("the server is ready", "url", a.URL(), "home", string(a.home), "dags", a.cfg.DAGs)
	close(a.ready)
	select {
	case <-ctx.Done():
		return r.stop(a.order(stopOrder{mode: EndTasks}))
	case <-a.orders.asked:
		return r.stop(a.order(stopOrder{}))
	case err := <-r.failed:
		return errors.Join(err, r.stop(a.order(stopOrder{mode: EndTasks})))
	}
}

// Close gives back what New took, and answers those who asked this server to stop. Run does it by itself.
func (a *App) Close() error {
	var errs []error
	a.streams()
	if a.listener != nil {
		if err := a.listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	if a.s3 != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		errs = append(errs, a.s3.Close(ctx))
		cancel()
	}
	if a.store != nil {
		errs = append(errs, a.store.Close())
	}
	if a.announced { // before the lock: afterwards the file may be the next server's
		errs = append(errs, a.home.withdraw())
	}
	if a.control != nil {
		errs = append(errs, a.control.Close())
	}
	if a.lock != nil {
		errs = append(errs, a.lock.Close())
	}
	a.listener, a.s3, a.store, a.lock, a.control, a.announced = nil, nil, nil, nil, nil, false
	if a.answered != nil {
		close(a.stopped)
		a.answered()
		a.answered = nil
	}
	if a.socket != nil {
		_ = a.socket.Close() // it has been handed over, or nobody wants it
		a.socket = nil
	}
	return errors.Join(errs...)
}

// part is one goroutine of the server.
type part struct {
	cancel context.CancelFunc
	done   chan struct{}
}

// running is a server that runs.
type running struct {
	app                               *App
	failed                            chan error
	lease                             part
	scheduler, executor, bundle, http part
	announcement                      part
}

func (r *running) start(name string, p *part, f func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	p.cancel, p.done = cancel, make(chan struct{})
	go func() {
		defer close(p.done)
		if err := f(ctx); err != nil {
			select {
			case r.failed <- fmt.Errorf("%s: %w", name, err):
			default:
			}
		}
	}()
}

func (p *part) end() {
	if p.cancel != nil {
		p.cancel()
		<-p.done
	}
}
