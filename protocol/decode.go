package protocol

import (
	"encoding/json"
	"fmt"
)

// TypeOf returns the "type" of a message body without decoding the rest into a struct.
func TypeOf(body json.RawMessage) (string, error) {
	var head struct {
		Type string `json:"type"`
	}
	if err := json.Unmarshal(body, &head); err != nil {
		return "", fmt.Errorf("decode message: %w", err)
	}
	if head.Type == "" {
		return "", fmt.Errorf("decode message: it has no type")
	}
	return head.Type, nil
}

// Decode decodes a body into the struct its type names and returns a pointer to it. Requests for the control plane all
// decode into *Request.
func Decode(body json.RawMessage) (any, error) {
	name, err := TypeOf(body)
	if err != nil {
		return nil, err
	}
	m := message(name)
	if m == nil {
		return nil, fmt.Errorf("decode message: unknown type %q", name)
	}
	if err := json.Unmarshal(body, m); err != nil {
		return nil, fmt.Errorf("decode %s: %w", name, err)
	}
	return m, nil
}

// DecodeAs decodes a body that must have the given type.
func DecodeAs[T any](body json.RawMessage, name string) (*T, error) {
	got, err := TypeOf(body)
	if err != nil {
		return nil, err
	}
	if got != name {
		return nil, fmt.Errorf("decode message: want %s, got %s", name, got)
	}
	v := new(T)
	if err := json.Unmarshal(body, v); err != nil {
		return nil, fmt.Errorf("decode %s: %w", name, err)
	}
	return v, nil
}

// IsRequest reports whether name is a type of Request, one that the control plane answers.
func IsRequest(name string) bool {
	_, ok := message(name).(*Request)
	return ok
}

// message returns a new value of the type that name stands for, nil for an unknown name.
func message(name string) any {
	switch name {
	case "Hello":
		return new(Hello)
	case "Exited":
		return new(Exited)
	case "Welcome":
		return new(Welcome)
	case "Describe":
		return new(Describe)
	case "Described":
		return new(Described)
	case "Fork":
		return new(Fork)
	case "Forked":
		return new(Forked)
	case "Timetable":
		return new(Timetable)
	case "TimetableAnswer":
		return new(TimetableAnswer)
	case "Shutdown":
		return new(Shutdown)
	case "StartupDetails":
		return new(StartupDetails)
	case "OKResponse":
		return new(OKResponse)
	case "XComResult":
		return new(XComResult)
	case "ConnectionResult":
		return new(ConnectionResult)
	}
	if m := taskMessage(name); m != nil {
		return m
	}
	switch name {
	case "GetXCom", "GetXComCount", "GetXComSequenceItem", "GetXComSequenceSlice", "SetXCom", "SetXComFile", "DeleteXCom",
		"GetVariable", "PutVariable", "DeleteVariable", "GetConnection",
		"TriggerDagRun", "GetDagRunState", "GetDagRun", "GetPreviousDagRun", "GetPrevSuccessfulDagRun",
		"GetTICount", "GetTaskStates", "GetTaskInstances", "GetDRCount", "GetDag",
		"GetAssetByName", "GetAssetByUri", "GetAssetEventByAsset", "GetAssetEventByAssetAlias",
		"AwaitRuns", "GetTriggers", "TriggerFired", "TriggerFailed", "TriggerBlocks":
		return new(Request)
	}
	return nil
}

// taskMessage covers what a task tells its worker.
func taskMessage(name string) any {
	switch name {
	case "SetRenderedFields":
		return new(SetRenderedFields)
	case "SetRenderedMapIndex":
		return new(SetRenderedMapIndex)
	case "MaskSecret":
		return new(MaskSecret)
	case "AddNotice":
		return new(AddNotice)
	case "SkipDownstreamTasks":
		return new(SkipDownstreamTasks)
	case "LogRecord":
		return new(LogRecord)
	case "SucceedTask":
		return new(SucceedTask)
	case "TaskState":
		return new(TaskState)
	case "RetryTask":
		return new(RetryTask)
	case "RescheduleTask":
		return new(RescheduleTask)
	case "DeferTask":
		return new(DeferTask)
	case "CallbacksDone":
		return new(CallbacksDone)
	case "ImportedModules":
		return new(ImportedModules)
	case "Exiting":
		return new(Exiting)
	}
	return nil
}
