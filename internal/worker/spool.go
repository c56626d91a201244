package worker

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/executor"
)

// spoolMemory is the largest result that is kept in memory beside its file.
const spoolMemory = 64 << 10

// A spool keeps results until the server acknowledges them: one file each, so that they outlive both processes. A file
// is made durable some time after it was written, off the task's critical path: until then only a power failure could
// take it, and after one the server knows that the worker is gone.
type spool struct {
	dir    string
	logger *slog.Logger

	mu      sync.Mutex
	results map[string]json.RawMessage // nil: only in the file
	unsaved map[string]bool            // the disk refused them
	aged    []string                   // saved and not yet durable
	syncing *time.Timer
	closed  bool
}

// syncDelay is how long a result waits for its acknowledgement before it costs an fsync.
const syncDelay = 2 * time.Second

// openSpool loads what a former worker left. A file that cannot be read is moved aside and its attempt reported as lost.
func openSpool(dir string, logger *slog.Logger) (*spool, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open spool: %w", err)
	}
	s := &spool{dir: dir, logger: logger, results: map[string]json.RawMessage{}, unsaved: map[string]bool{}}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("open spool: %w", err)
	}
	for _, e := range entries {
		id, ok := strings.CutSuffix(e.Name(), ".json")
		switch {
		case e.IsDir():
		case !ok:
			_ = os.Remove(filepath.Join(dir, e.Name())) // a temporary file whose rename never came
		default:
			s.load(id)
		}
	}
	return s, nil
}

func (s *spool) path(id string) string { return filepath.Join(s.dir, id+".json") }

func (s *spool) load(id string) {
	data, err := os.ReadFile(s.path(id))
	var r executor.Result
	if err == nil {
		err = json.Unmarshal(data, &r)
	}
	if err == nil && (r.AttemptID != id || r.State == "") {
		err = fmt.Errorf("it does not describe attempt %s", id)
	}
	if err == nil {
		s.results[id] = nil
		if len(data) <= spoolMemory {
			s.results[id] = data
		}
		return
	}
	aside := filepath.Join(s.dir, "corrupt")
	_ = os.MkdirAll(aside, 0o700)
	moved := os.Rename(s.path(id), filepath.Join(aside, id+".json"))
	s.logger.Error("a spooled result cannot be read; its attempt is reported as lost", "attempt", id, "err", err,
		"moved_to", aside, "move_err", moved)
	lost := executor.Result{
		AttemptID: id, State: run.Failed, Infra: true, EndedAt: time.Now(),
		Reason: fmt.Sprintf("its result was lost: the spooled file cannot be read (%v)", err),
	}
	if _, err := s.Add(lost); err == nil {
		s.Save(id)
	}
}

// Add takes a result into memory and returns it encoded. Save must follow.
func (s *spool) Add(r executor.Result) (json.RawMessage, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false) // what fitted into a task's frame must fit into this one
	if err := enc.Encode(r); err != nil {
		return nil, fmt.Errorf("encode result of attempt %s: %w", r.AttemptID, err)
	}
	data := bytes.TrimSuffix(buf.Bytes(), []byte("\n"))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.results[r.AttemptID] = data
	return data, nil
}

// Save writes a result that was added, unless it was acknowledged meanwhile. The disk's refusal is logged, and repaired
// later: the result stays in memory until then.
func (s *spool) Save(id string) {
	s.mu.Lock()
	data := s.results[id]
	s.mu.Unlock()
	if data != nil {
		s.put(id, data)
	}
}

func (s *spool) put(id string, data json.RawMessage) {
	err := s.save(id, data)
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, wanted := s.results[id]; !wanted {
		_ = os.Remove(s.path(id))
		return
	}
	if err != nil {
		s.logger.Error("cannot spool a result; it is kept in memory", "attempt", id, "err", err)
		s.unsaved[id] = true
	} else {
		s.aged = append(s.aged, id)
		if len(data) > spoolMemory {
			s.results[id] = nil
		}
	}
	if s.syncing == nil && !s.closed {
		s.syncing = time.AfterFunc(syncDelay, s.settle)
	}
}

func (s *spool) save(id string, data []byte) error {
	tmp := filepath.Join(s.dir, id+".tmp")
	err := os.WriteFile(tmp, data, 0o600)
	if err == nil {
		err = os.Rename(tmp, s.path(id))
	}
	if err != nil {
		_ = os.Remove(tmp)
	}
	return err
}

// settle makes results durable that are still waited for, and saves those that the disk refused.
func (s *spool) settle() {
	s.mu.Lock()
	aged, unsaved := s.aged, map[string]json.RawMessage{}
	for id := range s.unsaved {
		unsaved[id] = s.results[id]
	}
	s.aged, s.syncing = nil, nil
	s.mu.Unlock()
	for _, id := range aged {
		s.sync(s.path(id))
	}
	for id, data := range unsaved {
		if err := s.save(id, data); err == nil {
			s.sync(s.path(id))
			s.mu.Lock()
			delete(s.unsaved, id)
			if _, wanted := s.results[id]; !wanted {
				_ = os.Remove(s.path(id)) // acknowledged meanwhile
			}
			s.mu.Unlock()
		}
	}
	s.sync(s.dir)
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.unsaved) > 0 && s.syncing == nil && !s.closed {
		s.syncing = time.AfterFunc(syncDelay, s.settle)
	}
}

// sync makes a file or the folder durable.
func (s *spool) sync(path string) {
	f, err := os.Open(path)
	if err != nil {
		return // acknowledged and removed
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		s.logger.Error("a spooled result may not outlive a power failure", "path", path, "err", err)
	}
}

// Has reports whether the result of an attempt waits.
func (s *spool) Has(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.results[id]
	return ok
}

// IDs returns the attempts whose results wait.
func (s *spool) IDs() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	ids := make([]string, 0, len(s.results))
	for id := range s.results {
		ids = append(ids, id)
	}
	return ids
}

// Get returns an encoded result that waits.
func (s *spool) Get(id string) (json.RawMessage, error) {
	s.mu.Lock()
	data, ok := s.results[id]
	s.mu.Unlock()
	if !ok {
		return nil, os.ErrNotExist
	}
	if data != nil {
		return data, nil
	}
	return os.ReadFile(s.path(id))
}

// Remove forgets a result.
func (s *spool) Remove(id string) {
	s.mu.Lock()
	delete(s.results, id)
	delete(s.unsaved, id)
	s.mu.Unlock()
	_ = os.Remove(s.path(id))
}

// Close stops the background work and makes what waits durable.
func (s *spool) Close() {
	s.mu.Lock()
	s.closed = true
	if s.syncing != nil {
		s.syncing.Stop()
	}
	s.mu.Unlock()
	s.settle()
}
