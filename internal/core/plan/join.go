package plan

import (
	"slices"

	"ostro.dev/ostro/internal/core/run"
)

// Join folds b, decided after a on the same run, into a, so that both go into one commit with one write per row. It
// corrects the versions that r remembers: neither a nor b may have been handed to the store yet, and nothing else may have
// been decided on r since b.
func (r *Run) Join(a, b Decision) Decision {
	at := make(map[run.Key]int, len(a.Tasks)) // by key after the change
	for i, c := range a.Tasks {
		at[c.After.Key] = i
	}
	for _, c := range b.Tasks {
		i, seen := at[c.Before.Key]
		if !seen {
			a.Tasks = append(a.Tasks, c)
			continue
		}
		c.Before = a.Tasks[i].Before
		c.After.Version = c.Before.Version + 1
		a.Tasks[i] = c
		if in := r.find(c.After.Key); in != nil {
			in.ti.Version = c.After.Version
		}
	}
	switch {
	case a.Run == nil:
		a.Run = b.Run
	case b.Run != nil:
		joined := RunChange{Before: a.Run.Before, After: b.Run.After}
		joined.After.Version = joined.Before.Version + 1
		r.row.Version = joined.After.Version
		a.Run = &joined
	}
	a.Callbacks = append(a.Callbacks, b.Callbacks...)
	a.Kills = append(a.Kills, b.Kills...)
	a.WakeAt = b.WakeAt
	a.Ready = slices.DeleteFunc(append(a.Ready, b.Ready...), func(k run.Key) bool {
		in := r.find(k)
		return in == nil || in.ti.State != run.Scheduled
	})
	if b.PauseDAG != "" {
		a.PauseDAG = b.PauseDAG
	}
	return a
}

// IsZero tells whether a decision changes nothing.
func (d Decision) IsZero() bool {
	return len(d.Tasks) == 0 && d.Run == nil && len(d.Callbacks) == 0 && len(d.Kills) == 0 && d.PauseDAG == ""
}
