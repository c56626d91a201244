package bundle

import (
	"sync"

	"ostro.dev/ostro/protocol"
)

// asked is a variable or a connection that the import of a file read.
type asked struct{ what, name string }

func askedBy(d protocol.Described) []asked {
	var out []asked
	for _, name := range d.Variables {
		out = append(out, asked{"variable", name})
	}
	for _, name := range d.Connections {
		out = append(out, asked{"connection", name})
	}
	return out
}

// renewals remembers in which order variables and connections were changed, so that a change that comes while a file is
// being parsed is not missed: the file is compared with the time at which its parsing began.
type renewals struct {
	wake chan struct{}

	mu   sync.Mutex
	tick uint64
	last map[asked]uint64
}

// Renewed hears that a variable or a connection ("variable", "connection") was put or deleted. The files whose import
// read it are parsed again. It does not block.
func (w *Watcher) Renewed(what, name string) {
	w.names.add(asked{what, name})
	w.names.stir()
}

// stir has the watcher look at the files.
func (r *renewals) stir() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

func (r *renewals) add(a asked) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tick++
	r.last[a] = r.tick
}

func (r *renewals) now() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.tick
}

// since says whether one of the names was changed after a time.
func (r *renewals) since(names []asked, at uint64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, a := range names {
		if r.last[a] > at {
			return true
		}
	}
	return false
}
