// Package config is the one configuration: a struct with defaults, overlaid by a strict YAML file and then by OSTRO_…
// environment variables. It is the only package that reads the environment.
package config

import (
	"time"

	"ostro.dev/ostro/protocol"
)

// Config is everything that can be set. YAML keys are the field tags; OSTRO_SCHEDULER_PARALLELISM overrides
// scheduler.parallelism, and so on. Unknown keys are errors that name the nearest known key and the line.
type Config struct {
	Home    string `yaml:"-"`    // OSTRO_HOME or --home; default ~/.ostro
	File    string `yaml:"-"`    // the file that was read: HOME/ostro.yaml
	DAGs    string `yaml:"dags"` // default HOME/dags
	Host    string `yaml:"host"` // default 127.0.0.1
	Port    int    `yaml:"port"` // default 8080; OSTRO_PORT
	BaseURL string `yaml:"base_url"`
	Python  string `yaml:"python"` // default: $VIRTUAL_ENV/bin/python, else python3 on PATH
	Compat  string `yaml:"compat"` // airflow3 (default) or airflow2

	LogLevel string `yaml:"log_level"`

	Scheduler struct {
		Parallelism          int           `yaml:"parallelism"`              // slots of the local executor, default 32
		MaxActiveTasksPerDAG int           `yaml:"max_active_tasks_per_dag"` // 16
		MaxActiveRunsPerDAG  int           `yaml:"max_active_runs_per_dag"`  // 16
		DefaultPoolSlots     int           `yaml:"default_pool_slots"`       // 128
		MaxInfraRetries      int           `yaml:"max_infra_retries"`        // 5: attempts lost to a dead worker
		CatchupByDefault     *bool         `yaml:"catchup_by_default"`       // default by compat
		PausedAtCreation     bool          `yaml:"dags_are_paused_at_creation"`
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
		Timeout time.Duration `yaml:"timeout"` // 30s per file
		Memory  int64         `yaml:"memory"`  // bytes a parse may use, default 1 GiB
	} `yaml:"parsing"`

	Hosts struct {
		Idle   time.Duration `yaml:"idle"`   // a host unused so long ends, default 60s
		Memory int64         `yaml:"memory"` // budget of all idle hosts, default 1 GiB
	} `yaml:"hosts"`

	// Pods is how KubernetesPodOperator runs: "process" on this machine, or "" (refused with a hint).
	Pods      string                            `yaml:"pods"`
	Images    map[string]protocol.ImageSettings `yaml:"images"`
	Resources string                            `yaml:"resources"` // advisory (default) or strict

	// S3: with an endpoint or bucket of a real S3 set here (or AWS_ENDPOINT_URL/AWS_ACCESS_KEY_ID in the environment),
	// devs3 does not start.
	S3 struct {
		Dev      *bool  `yaml:"dev"` // default true when nothing else is configured
		Port     int    `yaml:"port"`
		Endpoint string `yaml:"endpoint"`
		Region   string `yaml:"region"`
	} `yaml:"s3"`
}
