package worker

import (
	"bytes"
	"io"
	"slices"
	"time"
	"unicode/utf8"
)

// An inlet is one of the two streams that a task prints to, on its way into the log, where it is cut into lines. It is
// guarded by the log's lock. The log may give up its lock whenever a line is stored, so an inlet is whole by then.
type inlet struct {
	log    *logFile
	stream string
	total  func() int64 // how much has been written into it, read or not; nil: no more than was read
	read   int64        // how much is in the log, rest included
	own    int64        // how much the task had printed by its own count, the last time that it said so
	shift  int64        // how much others have written here, less what the task has counted and sent elsewhere
	sure   sure
	over   bool   // its end has been reached
	rest   []byte // the beginning of a line whose end has not come
	seam   bool   // the next line goes on one that was cut
}

// A sure is what is known of the moment when a piece of a stream had been read: read so much, sent so much through the
// channel, and counted own by the last record in that.
type sure struct{ read, sent, own int64 }

func (in *inlet) index() int {
	if in.stream == streamErr {
		return 1
	}
	return 0
}

// written is how much has been written into it, read or not.
func (in *inlet) written() int64 {
	if in.total == nil {
		return in.read
	}
	return max(in.read, in.total())
}

// Copy reads a stream to its end and adds it line by line.
func (l *logFile) Copy(r io.Reader, stream string) {
	in := &l.order.inlets[0]
	if stream == streamErr {
		in = &l.order.inlets[1]
	}
	defer l.end(in)
	buf := make([]byte, 16<<10)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			l.take(in, buf[:n])
		}
		if err != nil {
			return
		}
		if n == len(buf) && len(buf) < 256<<10 {
			buf = make([]byte, 4*len(buf)) // a busy stream earns larger reads
		}
	}
}

// take adds what was read from a stream.
func (l *logFile) take(in *inlet, p []byte) {
	at, sent := time.Now(), l.order.sent()
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(p) > 0 {
		n := l.order.room(in, len(p), sent)
		in.write(at, p[:n])
		p = p[n:]
		l.order.release()
	}
	if l.order.early == nil && l.order.handled.Load() >= sent {
		in.sure = sure{in.read, sent, in.own}
	}
}

// end adds a last line without a newline.
func (l *logFile) end(in *inlet) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(in.rest) > 0 {
		in.hold(time.Now(), nil, maxLine)
		in.finish(time.Now(), nil)
	}
	in.over = true
	l.order.release()
}

func (in *inlet) write(at time.Time, p []byte) {
	for len(p) > 0 {
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			in.hold(at, p, maxLine+overlap)
			return
		}
		line := p[:i]
		p = p[i+1:]
		if len(in.rest)+len(line) > maxLine {
			in.hold(at, line, maxLine)
			line = nil
		}
		in.read += int64(len(line)) + 1
		in.finish(at, line)
	}
}

// hold keeps p for the line that is begun, and sheds whole pieces of it until it is short enough.
func (in *inlet) hold(at time.Time, p []byte, limit int) {
	in.read += int64(len(p))
	in.rest = append(in.rest, p...)
	for len(in.rest) > limit {
		in.shed(at, in.seamAt(maxLine), "…")
	}
}

// finish adds the line that ends with p.
func (in *inlet) finish(at time.Time, p []byte) {
	line := p
	if len(in.rest) > 0 {
		in.rest = append(in.rest, p...)
		line = in.rest
	}
	if n := len(line); n > 0 && line[n-1] == '\r' {
		line = line[:n-1]
	}
	text, ended := in.text(line), in.seam && len(line) == 0 // nothing but its end follows what was broken off
	in.rest, in.seam = in.rest[:0], false
	if !ended {
		in.emit(at, text)
	}
}

// text is a line's, or that of a piece of one.
func (in *inlet) text(line []byte) string {
	if in.seam {
		return "…" + string(line)
	}
	return string(line)
}

func (in *inlet) emit(at time.Time, text string) {
	// level info: much that is no error goes to stderr: progress bars, warnings, logs
	in.log.store(entry{at: at, stream: in.stream, level: "info", text: in.log.mask(text)})
}

// breakOff adds what there is of a line. The end of it that may be the beginning of a secret is kept for what follows.
func (in *inlet) breakOff(at time.Time) {
	if n := len(in.rest) - in.log.hides(in.rest); n > 0 && in.safe(0, n, len(in.rest)) {
		in.shed(at, n, "")
	}
}

// safe says whether masking both parts of a piece of the line gives what masking the whole gives.
func (in *inlet) safe(from, at, to int) bool {
	mask := in.log.mask
	return mask(string(in.rest[from:at]))+mask(string(in.rest[at:to])) == mask(string(in.rest[from:to]))
}

// shed adds the first n bytes of the line that is begun; what follows is another line then.
func (in *inlet) shed(at time.Time, n int, mark string) {
	text := in.text(in.rest[:n]) + mark
	in.rest = slices.Delete(in.rest, 0, n)
	in.seam = true
	in.emit(at, text)
}

// seamAt finds a place at or before want where neither a character nor a secret is cut in two.
func (in *inlet) seamAt(want int) int {
	for try, at := 0, want; try < 32 && at > 0; try, at = try+1, at-257 {
		for at > want-4 && at > 0 && !utf8.RuneStart(in.rest[at]) {
			at--
		}
		if in.safe(max(0, at-overlap), at, min(len(in.rest), at+overlap)) {
			return at
		}
	}
	return want
}

// appendLine appends one JSON line. It is written by hand because a task that prints a gigabyte passes through here.
func appendLine(dst []byte, at time.Time, stream, level, text, name string) []byte {
	dst = append(dst, `{"t":"`...)
	dst = at.UTC().AppendFormat(dst, time.RFC3339Nano)
	dst = append(dst, `","s":"`...)
	dst = append(dst, stream...)
	dst = append(dst, `","l":`...)
	dst = appendString(dst, level)
	dst = append(dst, `,"m":`...)
	dst = appendString(dst, text)
	if name != "" {
		dst = append(dst, `,"n":`...)
		dst = appendString(dst, name)
	}
	return append(dst, '}', '\n')
}

// appendString appends s as a JSON string; what is not UTF-8 becomes U+FFFD.
func appendString(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(s); {
		b := s[i]
		if b < utf8.RuneSelf {
			if b >= 0x20 && b != '"' && b != '\\' && b != 0x7f {
				i++
				continue
			}
			dst = append(dst, s[start:i]...)
			switch b {
			case '"', '\\':
				dst = append(dst, '\\', b)
			case '\n':
				dst = append(dst, '\\', 'n')
			case '\r':
				dst = append(dst, '\\', 'r')
			case '\t':
				dst = append(dst, '\\', 't')
			default:
				dst = append(dst, '\\', 'u', '0', '0', hex[b>>4], hex[b&15])
			}
			i++
			start = i
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && size == 1 {
			dst = append(dst, s[start:i]...)
			dst = append(dst, "�"...)
			i++
			start = i
			continue
		}
		i += size
	}
	dst = append(dst, s[start:]...)
	return append(dst, '"')
}
