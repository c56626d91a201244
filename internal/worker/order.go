package worker

import (
	"slices"
	"time"
)

// What a task prints and what it logs come over different pipes, each read by a goroutine of its own, so they arrive in an
// order of their own. Two things tell which came first: how much the task had printed when it made a record (After), and
// that a line that was read before the record's time was written before it. Only together they say that a line belongs
// after a record, since what the task's children print is not in its count. The lines that wait for the disk are the window
// in which the order is mended: a record that is late is put before the lines it precedes; one that is early waits, at most
// as long as the window is, for the lines it follows.

// An entry is a line on its way into a log.
type entry struct {
	at                        time.Time // when a record was made, when anything else was read
	stream, level, text, name string
	from                      int64     // of a printed line: where in its stream it begins
	after                     []int64   // of a record: how much of stdout and stderr had been printed; nil when that is not known
	since                     time.Time // of a record that waits: since when
}

// follows says of a record that waits whether e, a printed line, is where the wait ends.
func (e entry) follows(record entry) bool {
	return len(record.after) == 2 && e.from >= record.after[streamIndex(e.stream)]
}

func streamIndex(stream string) int {
	if stream == streamErr {
		return 1
	}
	return 0
}

// A mark remembers an entry in the buffer.
type mark struct {
	begins  int       // in the buffer
	read    time.Time // as the entry says
	written time.Time // as the log says
	printed bool
	index   int // of the stream
	from    int64
}

// An order knows what is in a log's buffer.
type order struct {
	marks   []mark
	last    time.Time // the time of the last line
	settled time.Time // the time of the last line before those in the buffer
	read    [2]int64  // how much of stdout and stderr is stored
	waiting []entry   // records that have come before what was printed before them
}

// early says whether a record has to wait.
func (o *order) early(e entry) bool {
	return len(o.waiting) > 0 || !o.arrived(e)
}

// arrived says whether everything printed before a record is stored.
func (o *order) arrived(e entry) bool {
	return len(e.after) != 2 || e.after[0] <= o.read[0] && e.after[1] <= o.read[1]
}

// settle forgets the marks: what is in the buffer is about to be written.
func (o *order) settle() { o.marks, o.settled = o.marks[:0], o.last }

// put adds an entry to the buffer: a record before the printed lines that came after it, all else at the end. While the
// buffer is being written, everything goes to the end.
func (o *order) put(buf []byte, e entry, writing bool) []byte {
	at := len(o.marks)
	if e.stream == streamLog && len(e.after) == 2 {
		for at > 0 && o.marks[at-1].later(e) {
			at--
		}
	}
	written := e.at
	if before := o.timeBefore(at); written.Before(before) {
		written = before
	}
	if at == len(o.marks) {
		if !writing {
			o.mark(at, len(buf), e, written)
		}
		o.last = written
		return appendLine(buf, written, e.stream, e.level, e.text, e.name)
	}
	begins := o.marks[at].begins
	line := appendLine(nil, written, e.stream, e.level, e.text, e.name)
	for i := at; i < len(o.marks); i++ {
		o.marks[i].begins += len(line)
	}
	o.mark(at, begins, e, written)
	return slices.Insert(buf, begins, line...)
}

func (o *order) mark(at, begins int, e entry, written time.Time) {
	o.marks = slices.Insert(o.marks, at, mark{begins: begins, read: e.at, written: written,
		printed: e.stream == streamOut || e.stream == streamErr, index: streamIndex(e.stream), from: e.from})
}

// timeBefore is the time of the line before the mark.
func (o *order) timeBefore(at int) time.Time {
	switch at {
	case len(o.marks):
		return o.last
	case 0:
		return o.settled
	}
	return o.marks[at-1].written
}

// later says whether a line that is there came after a record.
func (m mark) later(record entry) bool {
	return m.printed && m.from >= record.after[m.index] && !m.read.Before(record.at)
}
