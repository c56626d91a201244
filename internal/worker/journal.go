package worker

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// A journal keeps small entries by id in one file that is only appended to: creating and deleting a file for each costs
// the file system a hundred times what a line does. An entry is a line "+ID data", its end a line "-ID"; a file that has
// grown and consists mostly of what is over is written anew.
//
// What was appended outlives the process. It outlives the machine once sync was called.
type journal struct {
	path string

	mu    sync.Mutex
	file  *os.File // nil until the first entry
	size  int64    // of the lines that were written whole
	live  map[string][]byte
	bytes int64 // of the live entries
}

// journalSlack is how large a journal may grow before it is looked at.
const journalSlack = 1 << 20

func newJournal(path string) *journal { return &journal{path: path, live: map[string][]byte{}} }

// put adds an entry, or replaces it; data, which must not contain a line break, is kept. After an error nothing has
// changed.
func (j *journal) put(id string, data []byte) error {
	if id == "" || strings.ContainsAny(id, " \n") {
		return fmt.Errorf("journal: %q cannot be the id of an entry", id)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.append(appendEntry(nil, id, data)); err != nil {
		return err
	}
	j.bytes += int64(len(data) - len(j.live[id]))
	j.live[id] = data
	return nil
}

func appendEntry(to []byte, id string, data []byte) []byte {
	to = append(append(append(to, '+'), id...), ' ')
	return append(append(to, data...), '\n')
}

// drop ends an entry. It reports whether there was one. An end that the disk refuses is forgotten: the entry comes back
// after a restart, and whoever reads it finds that it is over.
func (j *journal) drop(id string) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	data, ok := j.live[id]
	if !ok {
		return false
	}
	delete(j.live, id)
	j.bytes -= int64(len(data))
	if j.size > journalSlack && j.size > 2*j.bytes && j.rewrite() == nil {
		return true
	}
	_ = j.append([]byte("-" + id + "\n"))
	return true
}

// open opens the file unless it is open.
func (j *journal) open() error {
	if j.file != nil {
		return nil
	}
	f, err := os.OpenFile(j.path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	j.file = f
	return nil
}

// append writes one line whole or not at all.
func (j *journal) append(line []byte) error {
	if err := j.open(); err != nil {
		return err
	}
	if _, err := j.file.Write(line); err != nil {
		_ = j.file.Truncate(j.size) // half a line would spoil the next one
		return err
	}
	j.size += int64(len(line))
	return nil
}

// rewrite replaces the file by one with the live entries alone, as durable as they were. After an error the old one is as
// good as before.
func (j *journal) rewrite() error {
	var all []byte
	for id, data := range j.live {
		all = appendEntry(all, id, data)
	}
	next, err := os.OpenFile(j.path+".new", os.O_RDWR|os.O_CREATE|os.O_TRUNC|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("rewrite journal: %w", err)
	}
	if _, err = next.Write(all); err == nil {
		err = next.Sync()
	}
	if err == nil {
		err = os.Rename(next.Name(), j.path)
	}
	if err != nil {
		_ = next.Close()
		_ = os.Remove(next.Name())
		return fmt.Errorf("rewrite journal: %w", err)
	}
	if j.file != nil {
		_ = j.file.Close()
	}
	j.file, j.size = next, int64(len(all))
	return nil
}

// sync makes everything durable that was appended before. Nobody waits for it who puts or drops meanwhile.
func (j *journal) sync() error {
	j.mu.Lock()
	err := j.open()
	var file *os.File
	if err == nil {
		file, err = reopen(j.file)
	}
	j.mu.Unlock()
	if err != nil {
		return err
	}
	defer file.Close()
	return file.Sync()
}

// reopen returns a handle of its own to an open file.
func reopen(f *os.File) (*os.File, error) {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

func (j *journal) close() {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.file != nil {
		_ = j.file.Close()
		j.file = nil
	}
}

// read takes in the entries a former process left and returns them in order, with the lines that say nothing. Those stay
// in the file until it is tidied.
func (j *journal) read() (entries []journalEntry, damaged [][]byte, err error) {
	data, err := os.ReadFile(j.path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("read journal: %w", err)
	}
	entries, damaged = parseJournal(data)
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, e := range entries {
		j.live[e.id] = e.data
		j.bytes += int64(len(e.data))
	}
	j.size = int64(len(data))
	if n := len(data); n > 0 && data[n-1] != '\n' { // the next line must not join a torn one
		if j.append([]byte("\n")) != nil { // a full disk
			j.size = int64(bytes.LastIndexByte(data, '\n') + 1)
			if err := os.Truncate(j.path, j.size); err != nil {
				return entries, damaged, fmt.Errorf("cut off a torn line of the journal: %w", err)
			}
		}
	}
	return entries, damaged, nil
}

// tidy writes a journal that was read anew, without what is over or damaged.
func (j *journal) tidy() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.size == 0 {
		return nil
	}
	return j.rewrite()
}

type journalEntry struct {
	id   string
	data []byte
}

// parseJournal reads lines. A line without its end, which a crash of the machine may leave, is damaged.
func parseJournal(data []byte) (entries []journalEntry, damaged [][]byte) {
	at := map[string]int{}
	for len(data) > 0 {
		line, rest, whole := bytes.Cut(data, []byte("\n"))
		data = rest
		id, value, _ := bytes.Cut(line[min(1, len(line)):], []byte(" "))
		switch {
		case !whole || len(id) == 0 || (line[0] != '+' && line[0] != '-'):
			damaged = append(damaged, line)
		case line[0] == '-':
			if n, ok := at[string(id)]; ok {
				entries[n].id = ""
				delete(at, string(id))
			}
		default:
			if n, ok := at[string(id)]; ok {
				entries[n].id = ""
			}
			at[string(id)] = len(entries)
			entries = append(entries, journalEntry{string(id), bytes.Clone(value)})
		}
	}
	kept := entries[:0]
	for _, e := range entries {
		if e.id != "" {
			kept = append(kept, e)
		}
	}
	return kept, damaged
}
