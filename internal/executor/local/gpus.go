package local

import (
	"encoding/json"

	"ostro.dev/ostro/internal/executor"
	"ostro.dev/ostro/internal/workerapi"
)

// receiveGPUs takes what the worker says of the machine's GPUs.
func (e *Executor) receiveGPUs(in workerapi.Inbound, sink executor.Sink, q *queue) {
	s, ok := sink.(executor.DeviceSink)
	if !ok {
		return
	}
	var devices workerapi.Devices
	var used workerapi.Used
	var err error
	if in.Type == "Devices" {
		err = json.Unmarshal(in.Body, &devices)
	} else {
		err = json.Unmarshal(in.Body, &used)
	}
	switch {
	case err != nil:
		e.log.Error("cannot read a report of the worker", "type", in.Type, "err", err)
	case in.Type == "Devices":
		q.add(func() { s.Devices(Name, devices.Devices) })
	default:
		q.add(func() { s.Used(used.AttemptID, used.Use) })
	}
}
