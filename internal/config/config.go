// Package config is the one configuration: a struct with defaults, overlaid by a strict YAML file and then by OSTRO_…
// environment variables and command-line flags, in this order. It is the only package that reads the environment.
//
// The package promises that a Config from Load is complete and valid: every default is filled in, every path is
// absolute, and every mistake was reported with the file, the line and the nearest key that exists. It must not know
// what the settings are used for, and it never writes.
package config

import (
	"cmp"
	_ "embed" // for the example file
	"errors"
	"fmt"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"ostro.dev/ostro/protocol"
)

// Config is everything that can be set. YAML keys are the field tags; OSTRO_SCHEDULER_PARALLELISM overrides
// scheduler.parallelism, and so on. Unknown keys are errors that name the nearest known key and the line.
type Config struct {
	Home    string `yaml:"-"`    // OSTRO_HOME or --home; default ~/.ostro
	File    string `yaml:"-"`    // HOME/ostro.yaml or OSTRO_CONFIG: the file that was read, or would be if it existed
	DAGs    string `yaml:"dags"` // default HOME/dags
	Host    string `yaml:"host"` // default 127.0.0.1
	Port    int    `yaml:"port"` // default 8080; OSTRO_PORT
	BaseURL string `yaml:"base_url"`
	Python  string `yaml:"python"` // default: $VIRTUAL_ENV/bin/python, else python3 on PATH
	Compat  string `yaml:"compat"` // airflow3 (default) or airflow2

	LogLevel string `yaml:"log_level"`

	// Database is where DAGs, runs and events are kept: postgresql://…, or "" for SQLite in Home. OSTRO_DATABASE_URL sets it
	// too. It may hold a password: show it with Masked.
	Database string `yaml:"database"`

	Scheduler struct {
		Parallelism          int           `yaml:"parallelism"`              // slots of the local executor, default 32
		MaxActiveTasksPerDAG int           `yaml:"max_active_tasks_per_dag"` // 16
		MaxActiveRunsPerDAG  int           `yaml:"max_active_runs_per_dag"`  // 16
		DefaultPoolSlots     int           `yaml:"default_pool_slots"`       // 128
		MaxInfraRetries      int           `yaml:"max_infra_retries"`        // 5: attempts lost to a dead worker
		CatchupByDefault     *bool         `yaml:"catchup_by_default"`       // default by compat
		PausedAtCreation     bool          `yaml:"dags_are_paused_at_creation"`
		UseJobSchedule       bool          `yaml:"use_job_schedule"` // true; false: runs come about only by hand
		MaxMapLength         int           `yaml:"max_map_length"`
		Interval             time.Duration `yaml:"interval"` // reconcile at least so often, default 5s
	} `yaml:"scheduler"`

	Tasks struct {
		DefaultRetries    int           `yaml:"default_retries"`
		DefaultRetryDelay time.Duration `yaml:"default_retry_delay"` // 5m
		// RetryDelayOverride, when set, replaces every task's retry delay: for demos and tests.
		RetryDelayOverride *time.Duration    `yaml:"retry_delay_override"`
		DefaultOwner       string            `yaml:"default_owner"`
		Env                map[string]string `yaml:"env"`        // for every task
		KillGrace          time.Duration     `yaml:"kill_grace"` // between TERM and KILL, default 10s
		Isolation          string            `yaml:"isolation"`  // fork (default) or spawn
	} `yaml:"tasks"`

	Parsing struct {
		Timeout time.Duration `yaml:"timeout"`             // 30s per file
		Memory  int64         `yaml:"memory" unit:"bytes"` // bytes a parse may use, default 1 GiB
	} `yaml:"parsing"`

	Hosts struct {
		Idle   time.Duration `yaml:"idle"`                // a host unused so long ends, default 60s
		Memory int64         `yaml:"memory" unit:"bytes"` // budget of all idle hosts, default 1 GiB
	} `yaml:"hosts"`

	GPUs struct {
		Undeclared string `yaml:"undeclared"` // visible (default) or hidden
	} `yaml:"gpus"`

	// Pods is how KubernetesPodOperator runs: "process" on this machine, or "" (refused with a hint).
	Pods      string                            `yaml:"pods"`
	Images    map[string]protocol.ImageSettings `yaml:"images"`
	Resources string                            `yaml:"resources"` // advisory (default) or strict

	// S3: with an endpoint or bucket of a real S3 set here (or AWS_ENDPOINT_URL/AWS_ACCESS_KEY_ID in the environment),
	// devs3 does not start.
	S3 struct {
		Dev      *bool  `yaml:"dev"`  // never nil after Load: true when no real S3 is configured
		Port     int    `yaml:"port"` // of the development endpoint; 0 takes a free one
		Endpoint string `yaml:"endpoint"`
		Region   string `yaml:"region"`
	} `yaml:"s3"`

	// Origins says where each value came from: "default", "file", "env" or "flag", by key ("scheduler.parallelism").
	Origins map[string]string `yaml:"-"`
	// Warnings are what Load found that is likely a mistake and may be none.
	Warnings []string `yaml:"-"`
	// Lines say where in File a key was set.
	Lines map[string]int `yaml:"-" json:"-"`
}

// Origins of a value, from the weakest to the strongest.
const (
	FromDefault = "default"
	FromFile    = "file"
	FromEnv     = "env"
	FromFlag    = "flag"
)

// Defaults is the configuration of a home folder without a file, environment or flags. Values that depend on the
// machine (Python, S3.Dev) are left for Load.
func Defaults(home string) Config {
	c := Config{Home: home, Host: "127.0.0.1", Port: 8080, Compat: "airflow3", LogLevel: "info", Resources: "advisory"}
	if home != "" {
		c.File, c.DAGs = filepath.Join(home, FileName), filepath.Join(home, "dags")
	}
	c.Scheduler.Parallelism = 32
	c.Scheduler.MaxActiveTasksPerDAG = 16
	c.Scheduler.MaxActiveRunsPerDAG = 16
	c.Scheduler.DefaultPoolSlots = 128
	c.Scheduler.MaxInfraRetries = 5
	c.Scheduler.UseJobSchedule = true
	c.Scheduler.MaxMapLength = 1024
	c.Scheduler.Interval = 5 * time.Second
	c.Tasks.DefaultRetryDelay = 5 * time.Minute
	c.Tasks.DefaultOwner = "airflow"
	c.Tasks.KillGrace = 10 * time.Second
	c.Tasks.Isolation = "fork"
	c.Parsing.Timeout = 30 * time.Second
	c.Parsing.Memory = 1 << 30
	c.Hosts.Idle = time.Minute
	c.Hosts.Memory = 1 << 30
	c.GPUs.Undeclared = "visible"
	c.S3.Region = "us-east-1"
	return c
}

// FileName is the configuration file inside the home folder.
const FileName = "ostro.yaml"

// Example is a configuration file with every key, its default and what it means.
//
//go:embed example.yaml
var Example string

// CatchupByDefault says whether a DAG that does not say catches up on the past: as configured, else as the Airflow of
// the compatibility mode does.
func (c Config) CatchupByDefault(compat string) bool {
	if c.Scheduler.CatchupByDefault != nil {
		return *c.Scheduler.CatchupByDefault
	}
	return cmp.Or(compat, c.Compat) == "airflow2"
}

// Validate reports every value that cannot be used, each by its key and with what is allowed.
func (c Config) Validate() error {
	var errs []error
	bad := func(key, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s: %s%s", key, fmt.Sprintf(format, args...), c.where(key)))
	}
	oneOf := func(key, value string, allowed ...string) {
		if !slices.Contains(allowed, value) {
			bad(key, "%q is not one of %s", value, quoteAll(allowed))
		}
	}
	atLeast := func(key string, value, least int64) {
		if value < least {
			bad(key, "%d is less than %d", value, least)
		}
	}
	positive := func(key string, d time.Duration) {
		if d <= 0 {
			bad(key, "%s is not longer than zero", d)
		}
	}
	for key, port := range map[string]int{"port": c.Port, "s3.port": c.S3.Port} {
		if port < 0 || port > 65535 {
			bad(key, "%d is not a port (0 to 65535; 0 takes a free one)", port)
		}
	}
	if strings.TrimSpace(c.Host) == "" {
		bad("host", "is empty; 127.0.0.1 serves this machine alone, 0.0.0.0 every network")
	}
	oneOf("compat", c.Compat, "airflow3", "airflow2")
	oneOf("log_level", c.LogLevel, "debug", "info", "warn", "error")
	if c.Database != "" && !strings.HasPrefix(c.Database, "postgresql://") && !strings.HasPrefix(c.Database, "postgres://") {
		bad("database", "is no address of a PostgreSQL database: write postgresql://USER:PASSWORD@HOST:PORT/DATABASE (leave it out for SQLite)")
	}
	oneOf("pods", c.Pods, "", "process")
	oneOf("resources", c.Resources, "advisory", "strict")
	oneOf("gpus.undeclared", c.GPUs.Undeclared, "visible", "hidden")
	oneOf("tasks.isolation", c.Tasks.Isolation, "fork", "spawn")
	atLeast("scheduler.parallelism", int64(c.Scheduler.Parallelism), 1)
	atLeast("scheduler.max_active_tasks_per_dag", int64(c.Scheduler.MaxActiveTasksPerDAG), 1)
	atLeast("scheduler.max_active_runs_per_dag", int64(c.Scheduler.MaxActiveRunsPerDAG), 1)
	atLeast("scheduler.default_pool_slots", int64(c.Scheduler.DefaultPoolSlots), 0)
	atLeast("scheduler.max_infra_retries", int64(c.Scheduler.MaxInfraRetries), 0)
	atLeast("scheduler.max_map_length", int64(c.Scheduler.MaxMapLength), 1)
	positive("scheduler.interval", c.Scheduler.Interval)
	atLeast("tasks.default_retries", int64(c.Tasks.DefaultRetries), 0)
	if c.Tasks.DefaultRetryDelay < 0 {
		bad("tasks.default_retry_delay", "%s is negative", c.Tasks.DefaultRetryDelay)
	}
	if d := c.Tasks.RetryDelayOverride; d != nil && *d < 0 {
		bad("tasks.retry_delay_override", "%s is negative", *d)
	}
	positive("tasks.kill_grace", c.Tasks.KillGrace)
	for _, name := range slices.Sorted(maps.Keys(c.Tasks.Env)) {
		if name == "" || strings.ContainsAny(name, "=\x00") {
			bad("tasks.env", "%q is not a name of an environment variable", name)
		}
	}
	positive("parsing.timeout", c.Parsing.Timeout)
	atLeast("parsing.memory", c.Parsing.Memory, 64<<20)
	positive("hosts.idle", c.Hosts.Idle)
	atLeast("hosts.memory", c.Hosts.Memory, 0)
	for _, pattern := range slices.Sorted(maps.Keys(c.Images)) {
		if _, err := path.Match(pattern, ""); err != nil || pattern == "" {
			bad("images", "%q is not a pattern for image names (such as ml-pipeline:*)", pattern)
		}
		if c.Images[pattern].Dir == "" {
			bad("images."+pattern, "has no dir: the folder in which the image's commands run")
		}
	}
	return errors.Join(errs...)
}

// where names the origin of a bad value, when it is one that a person wrote.
func (c Config) where(key string) string {
	for k := key; k != ""; {
		switch c.Origins[k] {
		case FromFile:
			return fmt.Sprintf(" (in %s:%d)", c.File, c.Lines[k])
		case FromEnv:
			return " (from " + EnvName(k) + ")"
		case FromFlag:
			return " (from a flag)"
		}
		i := strings.LastIndexByte(k, '.')
		if i < 0 {
			break
		}
		k = k[:i]
	}
	return ""
}

func quoteAll(values []string) string {
	quoted := make([]string, len(values))
	for i, v := range values {
		quoted[i] = strconv.Quote(v)
	}
	return strings.Join(quoted, ", ")
}
