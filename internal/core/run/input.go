package run

import (
	"encoding/json"
	"time"
)

// An Input is a question to a person, put by a task instance that awaits the answer, and the answer once there is one. It is
// kept as long as its instance.
type Input struct {
	Key
	// ID is that of the Wait: the attempt that asked.
	ID        string
	TryNumber int
	Form      Form
	CreatedAt time.Time
	// TimeoutAt is when the defaults are taken, or without any the task fails; nil: never.
	TimeoutAt *time.Time
	// Answer is nil while nobody has answered.
	Answer *Answer
}

// A Form says what is asked.
type Form struct {
	Subject  string   `json:"subject"`
	Body     string   `json:"body,omitempty"`
	Options  []string `json:"options"`
	Defaults []string `json:"defaults,omitempty"`
	Multiple bool     `json:"multiple,omitempty"`
	// Params are the fields to fill in, by name: {"value", "description", "schema"}.
	Params json.RawMessage `json:"params,omitempty"`
	// Assigned are the people who are asked; none: anybody.
	Assigned []Person `json:"assigned_users,omitempty"`
}

// A Person is somebody who is asked or who has answered.
type Person struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

// An Answer is what was chosen and filled in.
type Answer struct {
	At      time.Time       `json:"at"`
	By      *Person         `json:"by,omitempty"` // nil: nobody has answered in time, these are the defaults
	Options []string        `json:"options"`
	Params  json.RawMessage `json:"params,omitempty"` // an object
}
