package gpu

import (
	"cmp"
	"slices"
)

// A Ledger knows who holds what. A device stays held until its holder is released, also when the machine does not show it
// any more. The zero value is empty.
type Ledger struct {
	holds map[string]Hold
	use   map[string]use // by UUID; without those nobody holds
}

// use is what is taken of one device.
type use struct {
	whole  bool
	memory int64
	by     []string // ids of holders, in order
}

// Hold enters what somebody holds; an id that is there already is replaced.
func (l *Ledger) Hold(h Hold) {
	l.Release(h.ID)
	if len(h.Shares) == 0 {
		return
	}
	if l.holds == nil {
		l.holds, l.use = map[string]Hold{}, map[string]use{}
	}
	l.holds[h.ID] = h
	for _, s := range h.Shares {
		u := l.use[s.UUID]
		u.whole = u.whole || s.Memory == 0
		u.memory += s.Memory
		u.by = append(slices.Clone(u.by), h.ID)
		l.use[s.UUID] = u
	}
}

// Release frees everything an id holds.
func (l *Ledger) Release(id string) {
	h, ok := l.holds[id]
	if !ok {
		return
	}
	delete(l.holds, id)
	for _, s := range h.Shares {
		u := l.use[s.UUID]
		u.by = slices.DeleteFunc(slices.Clone(u.by), func(other string) bool { return other == id })
		if len(u.by) == 0 {
			delete(l.use, s.UUID)
			continue
		}
		u.memory -= s.Memory
		l.use[s.UUID] = u
	}
}

// Empty tells whether nobody holds anything.
func (l *Ledger) Empty() bool { return len(l.holds) == 0 }

// Holders are who holds a device, in the order they got it.
func (l *Ledger) Holders(uuid string) []Hold {
	var out []Hold
	for _, id := range l.use[uuid].by {
		out = append(out, l.holds[id])
	}
	return out
}

// Free is how much memory of a device is not declared by those who share it; 0 when somebody has it whole.
func (l *Ledger) Free(d Device) int64 {
	u := l.use[d.UUID]
	if u.whole {
		return 0
	}
	return max(0, d.Memory-u.memory)
}

// Taken tells whether a device is held, and whether by one who has it whole.
func (l *Ledger) Taken(uuid string) (held, whole bool) {
	u, held := l.use[uuid]
	return held, u.whole
}

// fits tells whether a device can serve a request now.
func (l *Ledger) fits(d Device, r Request) bool {
	u, held := l.use[d.UUID]
	if r.Memory == 0 {
		return !held
	}
	return !u.whole && d.Memory-u.memory >= r.Memory
}

// Place chooses the devices for a request among those that are not kept for somebody else; false when it cannot be served
// now. A whole device is the smallest that is free, GPUs before slices. A share goes where others share already, to the
// device it fills best, so that others stay whole.
func (l *Ledger) Place(devices []Device, r Request, kept map[string]bool) ([]Share, bool) {
	var fit []Device
	for _, d := range devices {
		if r.Suits(d) && !kept[d.UUID] && l.fits(d, r) {
			fit = append(fit, d)
		}
	}
	if len(fit) < r.Count {
		return nil, false
	}
	slices.SortStableFunc(fit, func(a, b Device) int {
		return cmp.Or(boolCompare(l.shared(b), l.shared(a)), boolCompare(a.MIG, b.MIG), cmp.Compare(l.Free(a), l.Free(b)),
			cmp.Compare(a.Index, b.Index), cmp.Compare(a.Slice, b.Slice))
	})
	shares := make([]Share, r.Count)
	for i, d := range fit[:r.Count] {
		shares[i] = Share{UUID: d.UUID, Index: d.Index, Slice: d.Slice, MIG: d.MIG, Memory: r.Memory}
	}
	return shares, true
}

// Keep chooses the devices to keep for a request that cannot be served now, so that it is served once they are free,
// whatever comes after it: first those that could serve it now, then those that are shared, then those that somebody has
// whole, each by their number. Nobody else gets a device that is kept, so those that could serve the request only become
// more, and the choice among the others changes only when they have: whoever waits is served after those who hold devices
// now have ended.
func (l *Ledger) Keep(devices []Device, r Request, kept map[string]bool) []string {
	var suit []Device
	for _, d := range devices {
		if r.Suits(d) && !kept[d.UUID] {
			suit = append(suit, d)
		}
	}
	rank := func(d Device) int {
		switch _, whole := l.Taken(d.UUID); {
		case l.fits(d, r):
			return 0
		case !whole:
			return 1
		default:
			return 2
		}
	}
	slices.SortStableFunc(suit, func(a, b Device) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.Index, b.Index), cmp.Compare(a.Slice, b.Slice))
	})
	var out []string
	for _, d := range suit[:min(r.Count, len(suit))] {
		out = append(out, d.UUID)
	}
	return out
}

func (l *Ledger) shared(d Device) bool {
	u, held := l.use[d.UUID]
	return held && !u.whole
}

// boolCompare puts false before true.
func boolCompare(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}
