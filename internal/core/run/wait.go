package run

import (
	"encoding/json"
	"time"
)

// A Wait is what a deferred task instance, or one that awaits input, waits for. It lives as long as that state does.
type Wait struct {
	Key
	// ID is the id of the attempt that gave up its process, so that an event for an earlier wait is never taken for this one.
	ID string
	// Classpath and Kwargs make the trigger: the name of its class and its arguments in XCom's encoding. Both are empty for
	// an instance that awaits input.
	Classpath string
	Kwargs    json.RawMessage
	CreatedAt time.Time
	// TimeoutAt is when the wait is given up; nil: never.
	TimeoutAt *time.Time
	// Alone is set when the trigger has blocked a triggerer: it gets a process of its own.
	Alone bool
}
