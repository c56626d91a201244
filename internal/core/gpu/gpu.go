// Package gpu says which GPUs of a machine an attempt gets: whole ones for itself, or a declared part of the memory of one
// that several share.
//
// It promises that no device is ever given to two who want it whole, nor to one who wants it whole and one who shares, that
// shares never add up to more than a device has, and that a request for several devices gets all of them or none. Begin with
// Ledger.Place (who gets what) and Ledger.Keep (what is kept free for somebody who waits). Everything is a value or a pure
// function. The package must not know how devices are found, nor who asks.
package gpu

import (
	"fmt"
	"time"
)

// A Device is one GPU, or one slice of a GPU that is partitioned (MIG).
type Device struct {
	UUID string `json:"uuid"`
	// Index is how nvidia-smi counts the GPU; Slice is which slice of it this is, and means nothing unless MIG is set.
	Index  int    `json:"index"`
	Slice  int    `json:"slice,omitempty"`
	MIG    bool   `json:"mig,omitempty"`
	Name   string `json:"name,omitempty"`
	Memory int64  `json:"memory"` // bytes
}

// Label is what people call the device: "GPU 0", or "GPU 0 slice 2".
func (d Device) Label() string { return label(d.Index, d.Slice, d.MIG) }

func label(index, slice int, mig bool) string {
	if mig {
		return fmt.Sprintf("GPU %d slice %d", index, slice)
	}
	return fmt.Sprintf("GPU %d", index)
}

// An Inventory is what is known of the GPUs of a machine.
type Inventory struct {
	Devices []Device `json:"devices,omitempty"`
	// Fault says in words why they are not known. Without one, Devices is all there is.
	Fault string `json:"fault,omitempty"`
}

// A Request is what a task wants: Count devices, each of them whole, or with Memory so many bytes of each.
type Request struct {
	Count  int
	Memory int64
}

// A Share is what an attempt holds of one device: all of it, or with Memory so many bytes beside others.
type Share struct {
	UUID   string `json:"uuid"`
	Index  int    `json:"index"`
	Slice  int    `json:"slice,omitempty"`
	MIG    bool   `json:"mig,omitempty"`
	Memory int64  `json:"memory,omitempty"`
}

// Label is what people call the device.
func (s Share) Label() string { return label(s.Index, s.Slice, s.MIG) }

// A Hold is what one attempt holds.
type Hold struct {
	ID     string // the attempt
	Name   string // for people: "dag/task"
	Since  time.Time
	Shares []Share
}

// Suits tells whether a device could ever serve the request. A process can use one slice of a partitioned GPU only, so a
// request for several devices gets whole GPUs.
func (r Request) Suits(d Device) bool {
	return d.Memory >= r.Memory && (r.Count <= 1 || !d.MIG)
}

// Suitable counts the devices that could serve the request.
func (r Request) Suitable(devices []Device) (n int) {
	for _, d := range devices {
		if r.Suits(d) {
			n++
		}
	}
	return n
}
