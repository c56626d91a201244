// Package workerapi is the conversation between a server and a worker: orders one way, reports and tasks' requests the
// other, as frames of package protocol over one connection. On a machine it is a Unix socket that the worker listens on,
// so that the worker outlives the server; the messages are the same wherever a worker runs.
//
// The package holds the messages and the multiplexed Peer; it must not know what either side does with them.
package workerapi

import (
	"encoding/json"

	"ostro.dev/ostro/internal/core/gpu"
	"ostro.dev/ostro/internal/executor"
	"ostro.dev/ostro/protocol"
)

// Server → worker requests. Every body has a "type" with the name of the struct.
type (
	// Attach is the server's first request: it becomes the one server of this worker. Answer: Attached.
	Attach struct {
		Type     string `json:"type"`
		Protocol int    `json:"protocol"`
		// ServerID identifies the server process, for the worker's log.
		ServerID string `json:"server_id"`
		// Settings the worker uses for launches from now on.
		Settings Settings `json:"settings"`
	}
	// Launch hands over attempts (idempotent by id). Answer: OKResponse.
	Launch struct {
		Type     string             `json:"type"`
		Attempts []executor.Attempt `json:"attempts"`
	}
	// Kill ends an attempt. Answer: OKResponse, also when the attempt is unknown.
	Kill struct {
		Type      string `json:"type"`
		AttemptID string `json:"attempt_id"`
		Reason    string `json:"reason"`
	}
	// Acknowledge lets the worker forget results. Answer: OKResponse.
	Acknowledge struct {
		Type       string   `json:"type"`
		AttemptIDs []string `json:"attempt_ids"`
	}
	// Parse describes one DAG file in a host. Answer: Parsed.
	Parse struct {
		Type        string            `json:"type"`
		Interpreter string            `json:"interpreter,omitempty"`
		Version     string            `json:"version"` // bundle version, part of the host's key
		Describe    protocol.Describe `json:"describe"`
		// TimeoutSeconds bounds the import; MemoryBytes its address space growth.
		TimeoutSeconds float64 `json:"timeout_seconds"`
		MemoryBytes    int64   `json:"memory_bytes"`
	}
	// Evaluate asks the timetable of a DAG in a host that has imported its file. Answer: Evaluated.
	Evaluate struct {
		Type        string             `json:"type"`
		Interpreter string             `json:"interpreter,omitempty"`
		Version     string             `json:"version"`
		Describe    protocol.Describe  `json:"describe"`
		Question    protocol.Timetable `json:"question"`
	}
	// Ping asks whether the worker is there. Answer: OKResponse; any answer, a refusal too, will do.
	Ping struct {
		Type string `json:"type"`
	}
	// Stop ends the worker: tasks get TERM, grace, KILL; results stay in the spool. Answer: Stopped.
	Stop struct {
		Type         string  `json:"type"`
		GraceSeconds float64 `json:"grace_seconds"`
	}
)

// Answers.
type (
	// Attached answers Attach.
	Attached struct {
		Type     string           `json:"type"`
		Instance string           `json:"instance"` // changes with every worker process
		PID      int              `json:"pid"`
		Version  string           `json:"version"`
		Known    []executor.Known `json:"known"`
		// Devices are the machine's GPUs; nil while they are not known, then Devices follows.
		Devices *gpu.Inventory `json:"devices,omitempty"`
		// Problem is what Trouble would say.
		Problem string `json:"problem,omitempty"`
	}
	// Parsed answers Parse. When the host died or hung, Described holds one error that says so.
	Parsed struct {
		Type      string             `json:"type"`
		Described protocol.Described `json:"described"`
		Output    string             `json:"output,omitempty"` // what the import printed, at most 64 KiB
		// Again says that another try may come to another end: somebody killed the process that imported the file, the
		// worker was stopping, or the time was up, which on a busy machine says little about the file.
		Again bool `json:"again,omitempty"`
	}
	// Evaluated answers Evaluate. When the host died or the file cannot be imported, Answer holds an error that says so.
	Evaluated struct {
		Type   string                   `json:"type"`
		Answer protocol.TimetableAnswer `json:"answer"`
	}
	// Stopped answers Stop.
	Stopped struct {
		Type   string   `json:"type"`
		Ended  []string `json:"ended"`  // attempts that ended in order
		Killed []string `json:"killed"` // attempts that had to be killed
	}
)

// Worker → server.
type (
	// Started (notification).
	Started struct {
		Type string `json:"type"`
		executor.Started
	}
	// Finished (notification, repeated after reconnecting until acknowledged).
	Finished struct {
		Type   string          `json:"type"`
		Result executor.Result `json:"result"`
	}
	// Devices says which GPUs the machine has (notification, when it has become known and when it has changed).
	Devices struct {
		Type    string        `json:"type"`
		Devices gpu.Inventory `json:"devices"`
	}
	// Used says what a running attempt was seen to use of its GPUs (notification, now and then).
	Used struct {
		Type      string  `json:"type"`
		AttemptID string  `json:"attempt_id"`
		Use       gpu.Use `json:"use"`
	}
	// Trouble says in words what keeps tasks waiting on the worker's side: what the disk does not take (notification, when it
	// begins, changes and, with an empty Problem, when it is over).
	Trouble struct {
		Type    string `json:"type"`
		Problem string `json:"problem"`
	}
	// Call forwards a task's request (request). The answer's body is the answer to the task.
	Call struct {
		Type      string          `json:"type"`
		AttemptID string          `json:"attempt_id"`
		Token     string          `json:"token"`
		Request   json.RawMessage `json:"request"`
		// Import is set for what a DAG file of the bundle asks while it is imported: no attempt, no token, and only
		// variables and connections are read.
		Import bool   `json:"import,omitempty"`
		Bundle string `json:"bundle,omitempty"`
	}
)

// Settings are what the server configures on the worker.
type Settings struct {
	Slots         int                   `json:"slots"`
	LogRoot       string                `json:"log_root"`
	Python        string                `json:"python"` // default interpreter
	RuntimePath   string                `json:"runtime_path"`
	Pods          *protocol.PodSettings `json:"pods,omitempty"`
	Env           map[string]string     `json:"env,omitempty"` // for every task: AWS_ENDPOINT_URL, …
	GraceSeconds  float64               `json:"grace_seconds"`
	HostIdle      float64               `json:"host_idle_seconds"`
	HostMemory    int64                 `json:"host_memory_bytes"` // budget of all idle hosts together
	MaskedValues  []string              `json:"masked_values,omitempty"`
	PreloadModule []string              `json:"preload_modules,omitempty"`
	HideGPUs      bool                  `json:"hide_gpus,omitempty"` // from tasks that ask for none
}
