package wire

import "encoding/json"

// UserHeader names the person for whom the holder of the token answers.
const UserHeader = "X-Ostro-User"

// HITLUser is a person who is asked or has answered.
type HITLUser struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

// HITLDetail is a question to a person and, once there is one, the answer.
type HITLDetail struct {
	TaskInstance TaskInstance `json:"task_instance"`

	Options       []string        `json:"options"`
	Subject       string          `json:"subject"`
	Body          *string         `json:"body"`
	Defaults      []string        `json:"defaults"`
	Multiple      bool            `json:"multiple"`
	Params        json.RawMessage `json:"params"`
	AssignedUsers []HITLUser      `json:"assigned_users"`
	CreatedAt     *Time           `json:"created_at"`

	RespondedByUser  *HITLUser       `json:"responded_by_user"`
	RespondedAt      *Time           `json:"responded_at"`
	ChosenOptions    []string        `json:"chosen_options"`
	ParamsInput      json.RawMessage `json:"params_input"`
	ResponseReceived bool            `json:"response_received"`

	Ostro HITLExtras `json:"x_ostro"`
}

// HITLExtras is what Airflow's answer has no field for.
type HITLExtras struct {
	// TimeoutAt is when the defaults are taken or, without any, the task fails.
	TimeoutAt *Time `json:"timeout_at,omitempty"`
}

// HITLDetails is a page of questions.
type HITLDetails struct {
	HITLDetails []HITLDetail `json:"hitl_details"`
	Total       int          `json:"total_entries"`
}

// HITLResponse is what was answered.
type HITLResponse struct {
	RespondedBy   HITLUser        `json:"responded_by"`
	RespondedAt   *Time           `json:"responded_at"`
	ChosenOptions []string        `json:"chosen_options"`
	ParamsInput   json.RawMessage `json:"params_input"`
}
