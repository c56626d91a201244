package worker

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/executor"
)

// spoolMemory is the largest result that is kept in memory beside its file.
const spoolMemory = 64 << 10

// A spool keeps results until the server acknowledges them, small ones as lines of a journal and large ones in a file
// each, so that they outlive both processes. They are made durable some time after they were written, off the task's
// critical path: until then only a power failure could take them, and after one the server knows that the worker is gone.
//
// A worker that ends in order leaves no journal: what waits is in a file each, ID.json, which builds from before the journal
// read as well. (They take a journal for a temporary file and delete it.) So going back to an older build loses nothing after
// an orderly end. What a newer build may leave that this one does not know is never deleted; a journal of such a kind keeps
// the worker from starting, as the server would take its results for lost.
type spool struct {
	dir    string
	logger *slog.Logger
	small  *journal
	// refused is called with what the disk said when it did not take a result, and with nil when none waits for it any more.
	refused func(error)

	mu      sync.Mutex
	results map[string]json.RawMessage // nil: only in the file
	unsaved map[string]bool            // the disk refused them
	aged    []string                   // large ones, saved and not yet durable
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
	s := &spool{
		dir: dir, logger: logger, small: newJournal(filepath.Join(dir, "results.journal")),
		results: map[string]json.RawMessage{}, unsaved: map[string]bool{}, refused: func(error) {},
	}
	if err := s.loadSmall(); err != nil {
		return nil, fmt.Errorf("open spool: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("open spool: %w", err)
	}
	for _, e := range entries {
		id, ok := strings.CutSuffix(e.Name(), ".json")
		switch {
		case ok && !e.IsDir():
			s.load(id)
		case !e.IsDir():
			if err := s.stray(e.Name()); err != nil {
				return nil, fmt.Errorf("open spool: %w", err)
			}
		}
	}
	return s, nil
}

// ErrNewerSpool: a newer build has left results in a form that this one does not know.
var ErrNewerSpool = errors.New("a newer version of ostro has left results here")

// stray looks at a file that holds no result of its own.
func (s *spool) stray(name string) error {
	journal := filepath.Base(s.small.path)
	switch {
	case name == journal:
	case strings.HasSuffix(name, ".tmp"), name == journal+".new": // its rename never came
		_ = os.Remove(filepath.Join(s.dir, name))
	case strings.HasSuffix(name, ".journal"):
		return fmt.Errorf("%w: %s; start that version once more and end it with `ostro stop`, then go back", ErrNewerSpool, filepath.Join(s.dir, name))
	default:
		s.logger.Warn("a file in the spool is none of a result's and is left alone", "file", filepath.Join(s.dir, name))
	}
	return nil
}

func (s *spool) path(id string) string { return filepath.Join(s.dir, id+".json") }

// loadSmall takes in the journal. A line that cannot be read is kept aside.
func (s *spool) loadSmall() error {
	entries, damaged, err := s.small.read()
	for _, e := range entries {
		if err := checkResult(e.id, e.data); err != nil {
			s.small.drop(e.id)
			damaged = append(damaged, appendEntry(nil, e.id, e.data))
			continue
		}
		s.results[e.id] = e.data
	}
	for _, line := range damaged {
		id, _, _ := bytes.Cut(bytes.TrimPrefix(line, []byte("+")), []byte(" "))
		if uuid.Validate(string(id)) != nil {
			s.logger.Error("a line of the spool says nothing and is left out", "file", s.small.path, "bytes", len(line))
			continue
		}
		s.lost(string(id), errors.New("its line is damaged"), func(aside string) error {
			return os.WriteFile(aside, line, 0o600)
		})
	}
	if err == nil && s.small.tidy() != nil {
		s.logger.Warn("the spool cannot be tidied; it is used as it is", "file", s.small.path)
	}
	return err
}

// load takes in the file of a large result.
func (s *spool) load(id string) {
	data, err := os.ReadFile(s.path(id))
	if err == nil {
		err = checkResult(id, data)
	}
	if err != nil {
		s.lost(id, err, func(aside string) error { return os.Rename(s.path(id), aside) })
		return
	}
	s.results[id] = nil
	if len(data) <= spoolMemory {
		s.results[id] = data
	}
}

func checkResult(id string, data []byte) error {
	var r executor.Result
	if err := json.Unmarshal(data, &r); err != nil {
		return err
	}
	if r.AttemptID != id || r.State == "" {
		return fmt.Errorf("it does not describe attempt %s", id)
	}
	return nil
}

// lost puts a result that cannot be read aside and reports its attempt as lost.
func (s *spool) lost(id string, err error, moveAside func(path string) error) {
	aside := filepath.Join(s.dir, "corrupt", id+".json")
	moved := os.MkdirAll(filepath.Dir(aside), 0o700)
	if moved == nil {
		moved = moveAside(aside)
	}
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
	_, wanted := s.results[id]
	if wanted {
		s.saved(id, data, err)
	}
	s.mu.Unlock()
	if !wanted { // acknowledged meanwhile
		s.unlink(id)
	}
}

// saved notes what became of saving a result; mu is held.
func (s *spool) saved(id string, data json.RawMessage, err error) {
	if err != nil {
		s.logger.Error("cannot spool a result; it is kept in memory", "attempt", id, "err", err)
		s.unsaved[id] = true
		s.refused(err)
	} else if len(data) > spoolMemory {
		s.aged = append(s.aged, id)
		s.results[id] = nil
	}
	if s.syncing == nil && !s.closed {
		s.syncing = time.AfterFunc(syncDelay, s.settle)
	}
}

func (s *spool) save(id string, data []byte) error {
	if len(data) <= spoolMemory {
		return s.small.put(id, data)
	}
	return s.saveFile(id, data)
}

func (s *spool) saveFile(id string, data []byte) error {
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
	for id, data := range unsaved {
		if s.save(id, data) != nil {
			continue
		}
		s.mu.Lock()
		delete(s.unsaved, id)
		_, wanted := s.results[id]
		if wanted && len(data) > spoolMemory {
			aged = append(aged, id)
			s.results[id] = nil
		}
		s.mu.Unlock()
		if !wanted { // acknowledged meanwhile
			s.unlink(id)
		}
	}
	if len(s.IDs()) > 0 {
		for _, id := range aged {
			s.sync(s.path(id))
		}
		if err := s.small.sync(); err != nil {
			s.logger.Error("spooled results may not outlive a power failure", "path", s.small.path, "err", err)
		}
		s.sync(s.dir)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cleared()
	if len(s.unsaved) > 0 && s.syncing == nil && !s.closed {
		s.syncing = time.AfterFunc(syncDelay, s.settle)
	}
}

// cleared says that the disk has taken everything, if it has; mu is held.
func (s *spool) cleared() {
	if len(s.unsaved) == 0 {
		s.refused(nil)
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
	s.cleared()
	s.mu.Unlock()
	s.unlink(id)
}

// unlink removes a result from the disk.
func (s *spool) unlink(id string) {
	s.small.drop(id)
	_ = os.Remove(s.path(id)) // also where the line replaced a file that could not be read
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
	if err := s.unfold(); err != nil {
		s.logger.Error("small results that wait stay in the journal; only this build and newer ones read it", "file", s.small.path, "err", err)
	}
	s.small.close()
}

// unfold puts what waits in the journal into files of their own and removes the journal.
func (s *spool) unfold() error {
	s.mu.Lock()
	waiting := map[string]json.RawMessage{}
	for id, data := range s.results {
		if data != nil {
			waiting[id] = data
		}
	}
	s.mu.Unlock()
	for id, data := range waiting {
		if err := s.saveFile(id, data); err != nil {
			return err
		}
	}
	if len(waiting) > 0 {
		if err := syncAll(s.dir); err != nil {
			return err
		}
	}
	s.small.close()
	if err := os.Remove(s.small.path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// syncAll makes a folder and all files in it durable, at the price of whatever else its file system has to write.
func syncAll(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		return os.NewSyscallError("syncfs", err)
	}
	return nil
}
