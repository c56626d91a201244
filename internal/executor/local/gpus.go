package local

import (
	"encoding/json"

	"ostro.dev/ostro/internal/core/gpu"
	"ostro.dev/ostro/internal/executor"
	"ostro.dev/ostro/internal/workerapi"
)

// tellGPUs tells what the worker said of the GPUs when it was reached. What a former worker said does not count any more.
// One of before this program's version may not say anything.
func tellGPUs(sink executor.Sink, known *gpu.Inventory, other bool) {
	s, ok := sink.(executor.DeviceSink)
	if !ok {
		return
	}
	switch {
	case known == nil && other:
		known = &gpu.Inventory{Fault: "nvidia-smi has not answered yet, or the worker, which is of another version and replaced once it has no task, does not ask it"}
	case known == nil:
		known = &gpu.Inventory{Fault: "nvidia-smi has not answered yet"}
	}
	s.Devices(Name, *known)
}

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
