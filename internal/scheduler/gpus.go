package scheduler

import (
	"reflect"

	"ostro.dev/ostro/internal/core/gpu"
	"ostro.dev/ostro/internal/core/plan"
	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/store"
)

// This file takes in what GPUs there are and how they are used. Who holds them stands with the attempts: it is stored by the
// commit that makes an attempt and ends with the one that ends it, so that a server that starts again knows it.

// Devices implements executor.DeviceSink.
func (s *Scheduler) Devices(executor string, inv gpu.Inventory) {
	s.box.put(message{actor: actorScheduler, fold: func(*batch) error {
		if was, known := s.devices[executor]; known && reflect.DeepEqual(was, inv) {
			return nil
		}
		s.devices[executor] = inv
		if inv.Fault != "" {
			s.log.Info("the GPUs of the machine are not known; tasks that ask for some wait", "executor", executor, "reason", inv.Fault)
		} else if len(inv.Devices) > 0 {
			s.log.Info("the GPUs of the machine", "executor", executor, "count", len(inv.Devices))
		}
		return nil
	}})
}

// Used implements executor.DeviceSink. Of an attempt that has ended its result says all.
func (s *Scheduler) Used(attemptID string, use gpu.Use) {
	s.box.put(message{actor: actorScheduler, fold: func(b *batch) error {
		if a := s.st.attempts[attemptID]; a != nil && !a.aside() {
			row := a.row
			row.GPUUse = &use
			b.writes = append(b.writes, func(tx *store.Tx) error { return tx.RecordGPUUse(row) })
		}
		return nil
	}})
}

// holdGPUs enters what an open attempt holds.
func (st *state) holdGPUs(a run.Attempt) {
	if len(a.GPUs) > 0 {
		st.usage.HoldGPUs(gpu.Hold{ID: a.ID, Name: plan.HolderName(a.Key), Since: a.QueuedAt, Shares: a.GPUs})
	}
}
