package v2

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"ostro.dev/ostro/internal/api/v2/wire"
	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/scheduler"
)

// One JSON answer carries about this much of a log; the rest is behind the continuation token.
const logChunk = 8 << 20

// maximumLine bounds what one line of an answer holds; the worker writes shorter ones.
const maximumLine = 4 << 20

// logFile reads the lines of one attempt's log from an offset. A last line without its newline is not yet a line while
// the attempt runs; after its end it is given as it is.
type logFile struct {
	f   *os.File
	r   *bufio.Reader
	pos int64 // after the last whole line
}

// openLog opens an attempt's log below root, nowhere else. A log that does not exist yet is nil.
func openLog(root string, k run.Key, try int) (*logFile, error) {
	return openLogAt(root, scheduler.LogPath(k, try))
}

func openLogAt(root, path string) (*logFile, error) {
	dir, err := os.OpenRoot(root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open the log folder: %w", err)
	}
	defer func() { _ = dir.Close() }()
	f, err := dir.Open(filepath.FromSlash(path))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open the log %s: %w", path, err)
	}
	return &logFile{f: f}, nil
}

func (l *logFile) close() { _ = l.f.Close() }

func (l *logFile) seek(pos int64) error {
	if _, err := l.f.Seek(pos, io.SeekStart); err != nil {
		return err
	}
	l.pos, l.r = pos, bufio.NewReaderSize(l.f, 64<<10)
	return nil
}

// size is how large the file is now.
func (l *logFile) size() int64 {
	if info, err := l.f.Stat(); err == nil {
		return info.Size()
	}
	return 0
}

// next returns the next line, io.EOF when there is none now; the caller may try again after the file has grown. With
// ended, a last line without newline counts.
func (l *logFile) next(ended bool) (wire.LogLine, error) {
	if l.r == nil {
		if err := l.seek(l.pos); err != nil {
			return wire.LogLine{}, err
		}
	}
	var line []byte
	var size int64
	for {
		part, err := l.r.ReadSlice('\n')
		size += int64(len(part))
		if len(line) < maximumLine {
			line = append(line, part...)
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if errors.Is(err, io.EOF) && (size == 0 || !ended) {
			l.r = nil // start again at the same place
			return wire.LogLine{}, io.EOF
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return wire.LogLine{}, fmt.Errorf("read the log: %w", err)
		}
		l.pos += size
		return parseLine(line), nil
	}
}

// parseLine reads a line as the worker writes it; what is not such a line (a last one cut off by a full disk, say) is
// shown as it is.
func parseLine(b []byte) wire.LogLine {
	b = bytes.TrimRight(b, "\n")
	var in struct {
		T time.Time `json:"t"`
		S string    `json:"s"`
		L string    `json:"l"`
		M *string   `json:"m"`
		N string    `json:"n"`
	}
	if err := json.Unmarshal(b, &in); err != nil || in.M == nil {
		return wire.LogLine{Event: strings.ToValidUTF8(string(b), "�")}
	}
	return wire.LogLine{Timestamp: wire.AtPtr(&in.T), Event: *in.M, Level: in.L, Logger: in.N, Stream: in.S}
}

// logOf is what the log routes need of an attempt.
type logOf struct {
	key     run.Key
	try     int
	attempt run.Attempt
}

func (a *API) logOf(r *request) (logOf, error) {
	index, try := r.mapIndex(), r.pathInt("try_number")
	if err := r.bad(); err != nil {
		return logOf{}, err
	}
	l := logOf{key: keyOf(r, index), try: try}
	if _, err := a.instance(r, l.key); err != nil {
		return l, err
	}
	attempts, err := a.Store.Attempts(r.ctx(), l.key)
	if err != nil {
		return l, fmt.Errorf("list attempts of %s: %w", l.key.TaskID, err)
	}
	for _, at := range slices.Backward(attempts) { // the last process of the try: while it runs the log grows
		if at.TryNumber == try {
			l.attempt = at
			return l, nil
		}
	}
	return l, notFound("TaskInstance not found: task %s has no try %d", l.key.TaskID, try)
}

func ended(at run.Attempt) bool { return at.EndedAt != nil }

// token says where the next answer goes on.
type logToken struct {
	Part int   `json:"part,omitempty"` // of the log, see openPart
	Pos  int64 `json:"pos"`
}

func (t logToken) String() string {
	b, _ := json.Marshal(t) // a number always has a JSON form
	return base64.RawURLEncoding.EncodeToString(b)
}

func parseToken(s string) (logToken, error) {
	var t logToken
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err == nil {
		err = json.Unmarshal(b, &t)
	}
	if err != nil || t.Pos < 0 || t.Part < 0 || t.Part > len(scheduler.TaskCallbacks) {
		return t, badRequest("Bad Signature. Please use only the tokens provided by the API.")
	}
	return t, nil
}

// getLog answers with structured lines: a JSON page with a token for more, or a stream that follows the log until the
// attempt's end.
func (a *API) getLog(r *request) error {
	full := r.boolean("full_content", false)
	l, err := a.logOf(r)
	if err != nil {
		return err
	}
	var from logToken
	if r.has("token") {
		if from, err = parseToken(r.text("token")); err != nil {
			return err
		}
	}
	switch accept := r.Header.Get("Accept"); {
	case r.accepts("application/x-ndjson"):
		return a.followLog(r, l, from)
	case accept == "", r.accepts("application/json"), r.accepts("*/*"), r.accepts("application/*"):
		return a.pageLog(r, l, from, full)
	default:
		return refuse(406, "Only application/json or application/x-ndjson is supported")
	}
}

// sources are the two lines every log answer begins with, as in Airflow.
func (a *API) sources(l logOf) []wire.LogLine {
	path := filepath.Join(a.LogRoot, filepath.FromSlash(scheduler.LogPath(l.key, l.try)))
	return []wire.LogLine{{Event: "::group::Log message source details", Sources: []string{path}}, {Event: "::endgroup::"}}
}

// openPart opens a part of an attempt's log: 0 is what its own process said; those after it are what its callbacks said
// that were run in a process of their own, after the attempt. A part that does not exist is nil.
func (a *API) openPart(l logOf, part int) (*logFile, error) {
	if part == 0 {
		return openLog(a.LogRoot, l.key, l.try)
	}
	return openLogAt(a.LogRoot, scheduler.CallbackLogPath(l.key, l.try, scheduler.TaskCallbacks[part-1]))
}

// heading is the line above a callback's output.
func heading(part int) wire.LogLine {
	return wire.LogLine{Event: scheduler.TaskCallbacks[part-1] + ", run in a process of its own:"}
}

// pageLog writes the page line by line, so that a log of any size takes little memory.
func (a *API) pageLog(r *request, l logOf, from logToken, full bool) error {
	over := ended(l.attempt) // asked before reading: what is written later is behind the token
	page := logPage{a: a, of: l, over: over, full: full, at: from}
	if err := page.open(); err != nil {
		return err
	}
	defer page.close()
	r.w.Header().Set("Content-Type", "application/json")
	page.w = bufio.NewWriter(r.w)
	_, _ = page.w.WriteString(`{"content":[`)
	if !r.has("token") {
		for _, s := range a.sources(l) {
			page.put(s)
		}
	}
	more := page.fill()
	for !more && over && page.at.Part < len(scheduler.TaskCallbacks) {
		page.at = logToken{Part: page.at.Part + 1}
		if err := page.open(); err != nil {
			breakOff()
		}
		if page.file != nil {
			page.put(heading(page.at.Part))
		}
		more = page.fill()
	}
	token := "null"
	if more || !over {
		token = strconv.Quote(page.at.String())
	}
	_, _ = page.w.WriteString(`],"continuation_token":` + token + `}`)
	_ = page.w.Flush() // the client may be gone
	return nil
}

// A logPage is one answer with a piece of a log.
type logPage struct {
	a          *API
	of         logOf
	over, full bool
	at         logToken
	file       *logFile // of the part it is at; nil: there is none
	start      int64    // of this answer in it
	size       int64    // of the file when it was opened
	sep        string
	w          *bufio.Writer
}

// open opens the part the page is at.
func (p *logPage) open() (err error) {
	p.close()
	if p.file, err = p.a.openPart(p.of, p.at.Part); err != nil || p.file == nil {
		return err
	}
	if err := p.file.seek(p.at.Pos); err != nil {
		return fmt.Errorf("read the log of %s: %w", p.of.key.TaskID, err)
	}
	p.start, p.size = p.at.Pos, p.file.size()
	return nil
}

func (p *logPage) close() {
	if p.file != nil {
		p.file.close()
		p.file = nil
	}
}

func (p *logPage) put(line wire.LogLine) {
	if b, err := encode(line); err == nil {
		_, _ = p.w.WriteString(p.sep)
		_, _ = p.w.Write(b)
		p.sep = ","
	}
}

// fill writes what there is of the part; true when the page is full before its end.
func (p *logPage) fill() (more bool) {
	if p.file == nil {
		return false
	}
	for {
		line, err := p.file.next(p.over)
		if errors.Is(err, io.EOF) {
			return false
		}
		if err != nil {
			breakOff() // a fault of the disk: half a log is no answer
		}
		p.put(line)
		p.at.Pos = p.file.pos
		if p.file.pos-p.start > logChunk && (!p.full || p.file.pos >= p.size) {
			return !p.full || p.size < p.file.size() // a task that goes on writing is not waited for
		}
	}
}

// breakOff ends an answer so that the client sees that it is not whole.
func breakOff() { panic(http.ErrAbortHandler) }

// followLog streams lines as they are written, until the attempt has ended and everything was sent. A stream that ends
// before that, with the server or for a fault, breaks off: its end says that the log is whole.
func (a *API) followLog(r *request, l logOf, from logToken) error {
	out := newLines(r.w)
	if !r.has("token") {
		for _, s := range a.sources(l) {
			if err := out.add(s); err != nil {
				return nil
			}
		}
	}
	watch, err := watchLog(filepath.Join(a.LogRoot, filepath.FromSlash(scheduler.LogPath(l.key, l.try))))
	if err != nil {
		a.Log.Debug("watch a log file", "err", err) // the interval below still finds new lines
	}
	defer watch.close()
	var file *logFile
	defer func() {
		if file != nil {
			file.close()
		}
	}()
	for {
		changed := a.Store.Changed()
		at, err := a.Store.Attempt(r.ctx(), l.attempt.ID)
		if err != nil {
			breakOff()
		}
		over := ended(at)
		if file == nil {
			if file, err = a.openPart(l, from.Part); err != nil {
				breakOff()
			}
			if file != nil {
				file.pos = from.Pos
			}
		}
		if file != nil && copyLines(out, file, over) != nil {
			breakOff()
		}
		if over && a.copyCallbacks(out, l, from.Part+1) != nil {
			breakOff()
		}
		if out.rc.Flush() != nil || over {
			return nil
		}
		select {
		case <-changed:
		case <-watch.wake():
		case <-time.After(time.Second):
		case <-r.ctx().Done():
			breakOff()
		}
	}
}

// copyCallbacks writes what the callbacks have said so far that were run in processes of their own.
func (a *API) copyCallbacks(out *lines, l logOf, part int) error {
	for ; part <= len(scheduler.TaskCallbacks); part++ {
		file, err := a.openPart(l, part)
		if err != nil {
			return err
		}
		if file == nil {
			continue
		}
		err = out.add(heading(part))
		if err == nil {
			err = copyLines(out, file, true)
		}
		file.close()
		if err != nil {
			return err
		}
	}
	return nil
}

func copyLines(out *lines, file *logFile, over bool) error {
	for {
		line, err := file.next(over)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := out.add(line); err != nil {
			return err
		}
	}
}
