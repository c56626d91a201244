package app

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"syscall"

	"ostro.dev/ostro/internal/bundle"
	"ostro.dev/ostro/internal/config"
	"ostro.dev/ostro/internal/core/plan"
	"ostro.dev/ostro/internal/executor/local"
	"ostro.dev/ostro/internal/scheduler"
	"ostro.dev/ostro/internal/workerapi"
	"ostro.dev/ostro/protocol"
)

// workerSettings are what the worker needs to know of the configuration.
func (a *App) workerSettings(runtimePath string) workerapi.Settings {
	env := map[string]string{}
	var masked []string
	if a.s3 != nil {
		maps.Copy(env, a.s3.Env())
		masked = a.s3.Secrets()
	}
	maps.Copy(env, a.cfg.Tasks.Env)
	s := workerapi.Settings{
		Slots: a.cfg.Scheduler.Parallelism, LogRoot: a.home.path("logs"), Python: a.cfg.Python, RuntimePath: runtimePath,
		Env: env, GraceSeconds: a.cfg.Tasks.KillGrace.Seconds(), HostIdle: a.cfg.Hosts.Idle.Seconds(), HostMemory: a.cfg.Hosts.Memory,
		MaskedValues: masked, HideGPUs: a.cfg.GPUs.Undeclared == "hidden",
	}
	if a.cfg.Pods != "" {
		s.Pods = &protocol.PodSettings{
			Mode: a.cfg.Pods, Images: a.cfg.Images, Strict: a.cfg.Resources == "strict", ConfigFile: a.cfg.File, GPUs: gpus(),
		}
	}
	return s
}

// gpus counts this machine's NVIDIA devices, for pods that run where no worker can say it.
func gpus() int {
	found, _ := filepath.Glob("/dev/nvidia[0-9]*")
	return len(found)
}

// memory is this machine's memory in bytes; 0 when it does not say.
func memory() int64 {
	var info syscall.Sysinfo_t
	if syscall.Sysinfo(&info) != nil {
		return 0
	}
	return int64(info.Totalram) * int64(info.Unit)
}

// infraRetries is the configured cap; the plan takes 0 for its own default and less for none.
func infraRetries(c config.Config) int {
	if c.Scheduler.MaxInfraRetries == 0 {
		return -1
	}
	return c.Scheduler.MaxInfraRetries
}

func (a *App) schedulerConfig(key []byte) scheduler.Config {
	c := a.cfg
	return scheduler.Config{
		Limits: plan.Limits{
			DefaultExecutor: local.Name, MaxActiveTasks: c.Scheduler.MaxActiveTasksPerDAG, MaxActiveRuns: c.Scheduler.MaxActiveRunsPerDAG,
			MaxInfraRetries: infraRetries(c), MaxMapLength: c.Scheduler.MaxMapLength, RetryDelay: c.Tasks.RetryDelayOverride,
			StrictResources: c.Resources == "strict", CPUs: float64(runtime.NumCPU()), Memory: memory(),
		},
		Slots: map[string]int{local.Name: c.Scheduler.Parallelism}, DefaultPoolSlots: c.Scheduler.DefaultPoolSlots,
		Timetables: a.exec, BundleName: bundle.DefaultName, BundleShown: shown(c.DAGs),
		BundlePath: func(version string) string { return bundle.SnapshotPath(a.home.path("bundles"), version) },
		HasBundle: func(version string) bool {
			_, err := os.Stat(bundle.SnapshotPath(a.home.path("bundles"), version))
			return err == nil
		},
		Isolation: c.Tasks.Isolation, Compat: c.Compat, Grace: c.Tasks.KillGrace, BaseURL: a.URL(),
		ByHand:   !c.Scheduler.UseJobSchedule,
		Defaults: a.authorDefaults(),
		TokenKey: key, Interval: c.Scheduler.Interval, Elapsed: sinceBoot(),
	}
}

func shown(dir string) string {
	if abs, err := filepath.Abs(dir); err == nil {
		return abs
	}
	return dir
}

func (a *App) bundleConfig() bundle.Config {
	c := a.cfg
	return bundle.Config{
		Dir: shown(c.DAGs), Snapshots: a.home.path("bundles"), Home: a.home.path(""), Compat: c.Compat, PausedAtCreation: c.Scheduler.PausedAtCreation,
		ParseTimeout: c.Parsing.Timeout, ParseMemory: c.Parsing.Memory,
		Defaults: a.authorDefaults(),
	}
}

// authorDefaults fill the arguments that DAG files leave out.
func (a *App) authorDefaults() map[string]json.RawMessage {
	c := a.cfg
	return map[string]json.RawMessage{
		"default_retries":     value(c.Tasks.DefaultRetries),
		"default_retry_delay": value(c.Tasks.DefaultRetryDelay.Seconds()),
		"owner":               value(c.Tasks.DefaultOwner),
		"catchup_by_default":  value(c.CatchupByDefault(c.Compat)),
	}
}

// value is a plain value as JSON.
func value(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("app: %v as JSON: %v", v, err)) // numbers, booleans and strings always can
	}
	return b
}

// tokenKey reads the key that callback processes' tokens are made from, or makes it.
func (h home) tokenKey() ([]byte, error) {
	path := h.path("run", "callback.key")
	b, err := os.ReadFile(path)
	if err == nil && len(b) >= 32 {
		return b, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read the callback key: %w", err)
	}
	b = make([]byte, 32)
	if _, err := rand.Read(b); err != nil {
		return nil, err
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		return nil, fmt.Errorf("write the callback key: %w", err)
	}
	return b, nil
}
