package worker

import (
	"encoding/json"
	"log/slog"
	"path/filepath"

	"ostro.dev/ostro/internal/daghost"
)

// records keeps, for every running attempt, which process it is, for the next worker to find if this one is killed.
type records struct{ journal *journal }

func newRecords(dir string) records {
	return records{newJournal(filepath.Join(dir, "attempts.journal"))}
}

// Write records an attempt's process. It is not made durable: after a power failure there is no process to find.
func (r records) Write(id string, p daghost.ProcessID) error {
	data, err := json.Marshal(p)
	if err != nil {
		return err
	}
	return r.journal.put(id, data)
}

func (r records) Remove(id string) { r.journal.drop(id) }

// clearPredecessor kills every process a former worker of this home left behind and returns when none is left: those in
// the records and in their sessions (a task leads its own), and those that carry the home's marker in their environment.
func (r records) clearPredecessor(home, instance string, logger *slog.Logger) error {
	entries, _, err := r.journal.read() // a damaged line was half written when the worker died; the marker finds the process
	if err != nil {                     // a full disk, for instance: what was read is killed all the same, and the marker finds the others
		logger.Error("the records of a former worker's processes", "err", err)
	}
	var sessions []int
	for _, e := range entries {
		var p daghost.ProcessID
		if json.Unmarshal(e.data, &p) != nil {
			continue
		}
		if p.Alive() {
			daghost.KillTree(p.PID)
		}
		if p.SessionIsOurs() {
			sessions = append(sessions, p.PID)
		}
	}
	n, err := daghost.KillMarked(home, instance, sessions)
	if err != nil {
		return err
	}
	if n > 0 || len(entries) > 0 {
		logger.Warn("cleared what a former worker left", "processes", n, "attempts", len(entries))
	}
	for _, e := range entries {
		r.journal.drop(e.id)
	}
	if err := r.journal.tidy(); err != nil {
		logger.Warn("the records of a former worker cannot be tidied", "err", err)
	}
	return nil
}
