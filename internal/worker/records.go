package worker

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"ostro.dev/ostro/internal/daghost"
)

// records keeps, for every running attempt, which process it is, for the next worker to find if this one is killed.
type records struct{ dir string }

type record struct {
	AttemptID string            `json:"attempt_id"`
	Process   daghost.ProcessID `json:"process"`
}

func (r records) path(id string) string { return filepath.Join(r.dir, id+".json") }

// Write records an attempt's process. It is not made durable: after a power failure there is no process to find.
func (r records) Write(id string, p daghost.ProcessID) error {
	data, err := json.Marshal(record{id, p})
	if err != nil {
		return err
	}
	return os.WriteFile(r.path(id), data, 0o600)
}

func (r records) Remove(id string) { _ = os.Remove(r.path(id)) }

// clearPredecessor kills every process a former worker of this home left behind and returns when none is left: those in
// the records and in their sessions (a task leads its own), and those that carry the home's marker in their environment.
func (r records) clearPredecessor(home, instance string, logger *slog.Logger) error {
	entries, err := os.ReadDir(r.dir)
	if err != nil {
		return fmt.Errorf("read attempt records: %w", err)
	}
	var sessions []int
	for _, e := range entries {
		id, ok := strings.CutSuffix(e.Name(), ".json")
		if !ok {
			continue
		}
		var rec record
		data, err := os.ReadFile(r.path(id))
		if err == nil {
			err = json.Unmarshal(data, &rec)
		}
		if err != nil {
			continue // half written when the worker died; the marker finds the process
		}
		if rec.Process.Alive() {
			daghost.KillTree(rec.Process.PID)
		}
		if rec.Process.SessionIsOurs() {
			sessions = append(sessions, rec.Process.PID)
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
		_ = os.Remove(filepath.Join(r.dir, e.Name()))
	}
	return nil
}
