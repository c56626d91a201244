package wire

import (
	"encoding/json"
	"regexp"
	"unicode/utf8"
)

// Variable is a key and its text.
type Variable struct {
	Key         string  `json:"key"`
	Value       string  `json:"value"`
	Description *string `json:"description"`
	IsEncrypted bool    `json:"is_encrypted"`
	TeamName    *string `json:"team_name"`
	// Ostro is there in answers to a write that deserves a warning.
	Ostro *AdminExtras `json:"ostro,omitempty"`
}

// AdminExtras is what Airflow's answers have no member for.
type AdminExtras struct {
	// Warnings are sentences about what was stored.
	Warnings []string `json:"warnings"`
}

// Variables answers GET /variables.
type Variables struct {
	Variables []Variable `json:"variables"`
	Total     int        `json:"total_entries"`
}

// connectionID is Airflow's pattern of the ids of connections, in which \w stands for the letters of all languages.
var connectionID = regexp.MustCompile(`^[\pL\pM\p{Nd}\p{Nl}\p{Pc}.-]+$`)

// ValidConnectionID tells whether a connection may have this id.
func ValidConnectionID(id string) bool {
	return connectionID.MatchString(id) && id != "." && id != ".." && utf8.RuneCountInString(id) <= 200
}

// Connection is how to reach an outside system, with its secrets redacted.
type Connection struct {
	ID          string  `json:"connection_id"`
	Type        string  `json:"conn_type"`
	Description *string `json:"description"`
	Host        *string `json:"host"`
	Login       *string `json:"login"`
	Schema      *string `json:"schema"`
	Port        *int    `json:"port"`
	Password    *string `json:"password"`
	Extra       *string `json:"extra"`
	TeamName    *string `json:"team_name"`
	// Ostro is there in answers to a write that deserves a warning.
	Ostro *AdminExtras `json:"ostro,omitempty"`
}

// Connections answers GET /connections.
type Connections struct {
	Connections []Connection `json:"connections"`
	Total       int          `json:"total_entries"`
}

// Pool is a pool with what is in it now.
type Pool struct {
	Name            string  `json:"name"`
	Slots           int     `json:"slots"`
	Description     *string `json:"description"`
	IncludeDeferred bool    `json:"include_deferred"`
	TeamName        *string `json:"team_name"`
	OccupiedSlots   int     `json:"occupied_slots"`
	RunningSlots    int     `json:"running_slots"`
	QueuedSlots     int     `json:"queued_slots"`
	ScheduledSlots  int     `json:"scheduled_slots"`
	OpenSlots       int     `json:"open_slots"`
	DeferredSlots   int     `json:"deferred_slots"`
}

// Pools answers GET /pools.
type Pools struct {
	Pools []Pool `json:"pools"`
	Total int    `json:"total_entries"`
}

// Bulk is the body of a bulk request.
type Bulk struct {
	Actions []BulkAction `json:"actions"`
}

// BulkAction creates, updates or deletes several entities.
type BulkAction struct {
	Action string `json:"action"` // create, update, delete
	// ActionOnExistence is fail (default), skip or overwrite; ActionOnNonExistence is fail (default) or skip.
	ActionOnExistence    string            `json:"action_on_existence,omitempty"`
	ActionOnNonExistence string            `json:"action_on_non_existence,omitempty"`
	UpdateMask           []string          `json:"update_mask,omitempty"`
	Entities             []json.RawMessage `json:"entities"`
}

// BulkResult answers a bulk request; a kind of action that was not asked for is null.
type BulkResult struct {
	Create *BulkOutcome `json:"create"`
	Update *BulkOutcome `json:"update"`
	Delete *BulkOutcome `json:"delete"`
}

// BulkOutcome lists the keys that went well and, for the others, why not.
type BulkOutcome struct {
	Success []string    `json:"success"`
	Errors  []BulkError `json:"errors"`
	// Ostro is there when what was written deserves a warning.
	Ostro *AdminExtras `json:"ostro,omitempty"`
}

// BulkError is one refusal inside a bulk answer.
type BulkError struct {
	Error      string `json:"error"`
	StatusCode int    `json:"status_code"`
}
