package worker

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"ostro.dev/ostro/internal/secret"
)

// A way is a pipe or a channel that a test fills and lets be read when it likes.
type way struct {
	mu     sync.Mutex
	moved  *sync.Cond
	left   []byte
	taken  int64
	may    int // how much may be read now
	freely bool
	ended  bool

	counted int64 // by the task
	begun   bool  // a line of the task's
}

func newWay() *way {
	w := &way{}
	w.moved = sync.NewCond(&w.mu)
	return w
}

// Read reads what may be read.
func (w *way) Read(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.left) == 0 || !w.freely && w.may == 0 {
		if w.ended && len(w.left) == 0 {
			return 0, io.EOF
		}
		w.moved.Wait()
	}
	n := min(len(p), len(w.left))
	if !w.freely {
		n = min(n, w.may)
	}
	copy(p, w.left[:n])
	w.left, w.taken, w.may = w.left[n:], w.taken+int64(n), max(0, w.may-n)
	return n, nil
}

func (w *way) total() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.taken + int64(len(w.left))
}

func (w *way) write(text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.left = append(w.left, text...)
	w.moved.Broadcast()
}

// print writes as the task itself does.
func (w *way) print(text string) {
	w.write(text)
	w.counted, w.begun = w.counted+int64(len(text)), !strings.HasSuffix(text, "\n")
}

// let has n bytes be read, or whatever comes.
func (w *way) let(n int, freely bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.may, w.freely = n, freely
	w.moved.Broadcast()
}

func (w *way) end() {
	w.let(0, true)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended = true
	w.moved.Broadcast()
}

// A script is a task and the goroutines that read what it says, all in memory. What the task does is there at once; it is
// read when the test says so.
type script struct {
	log           *logFile
	out, err, say *way
	text          bytes.Buffer
	readers       sync.WaitGroup
	begun         time.Time
}

// play runs a script in a bubble of its own, to the end, and returns the lines of the log. A bubble in which everything
// waits for something panics.
func play(t *testing.T, act func(*script)) (lines []logLine) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &script{out: newWay(), err: newWay(), say: newWay(), begun: time.Now()}
		s.log = newLog(context.Background(), "", func(s string) string { return s }, 0, quiet)
		s.log.put = s.text.Write
		o := &s.log.order
		o.channel, o.inlets[0].total, o.inlets[1].total = s.say.total, s.out.total, s.err.total
		s.readers.Go(func() { s.log.Copy(s.out, streamOut) })
		s.readers.Go(func() { s.log.Copy(s.err, streamErr) })
		s.readers.Go(s.listen)
		act(s)
		for _, w := range []*way{s.out, s.err, s.say} {
			w.end()
		}
		s.readers.Wait()
		s.log.Close()
		for line := range bytes.Lines(s.text.Bytes()) {
			var l logLine
			if err := json.Unmarshal(line, &l); err != nil {
				t.Error(err)
			}
			lines = append(lines, l)
		}
	})
	if !slices.IsSortedFunc(lines, func(a, b logLine) int { return a.T.Compare(b.T) }) {
		t.Errorf("the times go backwards: %v", lines)
	}
	return lines
}

// listen handles records, each a line of JSON, as the goroutine of a task's channel does.
func (s *script) listen() {
	defer s.log.order.deaf()
	buf, rest := make([]byte, 512), []byte(nil)
	for {
		s.say.mu.Lock()
		taken := s.say.taken
		s.say.mu.Unlock()
		s.log.order.heard(taken)
		n, err := s.say.Read(buf)
		if err != nil {
			return
		}
		rest = append(rest, buf[:n]...)
		for {
			line, more, whole := bytes.Cut(rest, []byte("\n"))
			if !whole {
				break
			}
			rest = more
			var r said
			if err := json.Unmarshal(line, &r); err != nil {
				panic(err)
			}
			s.log.Add(entry{at: s.begun, stream: streamLog, level: "info", text: r.Text, counted: !r.Lost, after: r.After, begun: r.Begun, alone: !r.Busy, behind: r.Behind})
		}
	}
}

// A said is a record on its way.
type said struct {
	Text  string
	Lost  bool // how much was printed
	After [2]int64
	Begun [2]bool
	Busy  bool // other threads print, too

	Behind bool // the task waits for it
}

func (s *script) printed(text string)    { s.out.print(text) }
func (s *script) complained(text string) { s.err.print(text) }

// logged has the task make a record that says how much it has printed.
func (s *script) logged(text string) {
	s.send(said{Text: text, After: [2]int64{s.out.counted, s.err.counted}, Begun: [2]bool{s.out.begun, s.err.begun}})
}

func (s *script) send(r said) {
	data, _ := json.Marshal(r)
	s.say.write(string(data) + "\n")
}

// read has one way be read, as far as it goes.
func (s *script) read(w *way) {
	w.let(1<<20, false)
	synctest.Wait()
	w.let(0, false)
}

func TestRecordsAreStoredWhereTheTaskMadeThem(t *testing.T) {
	for name, c := range map[string]struct {
		act  func(*script)
		want []string
	}{
		"nothing is known of it": {func(s *script) { s.printed("a\n"); s.read(s.out); s.send(said{Text: "b", Lost: true}) }, []string{"a", "b"}},
		"the channel is read first": {func(s *script) {
			s.printed("a\n")
			s.logged("b")
			s.logged("c")
			s.printed("d\n")
			s.logged("e")
			s.read(s.say)
		}, []string{"a", "b", "c", "d", "e"}},
		"the pipe is read first": {func(s *script) {
			s.printed("a\n")
			s.logged("b")
			s.logged("c")
			s.printed("d\n")
			s.logged("e")
			s.read(s.out)
		}, []string{"a", "b", "c", "d", "e"}},
		"one stream is slow": {func(s *script) {
			s.printed("a\n")
			s.logged("b")
			s.complained("c\n")
			s.logged("d")
			s.read(s.say)
			s.read(s.err)
		}, []string{"a", "b", "c", "d"}},
		"both streams are ahead of the channel": {func(s *script) {
			s.logged("a")
			s.complained("b\n")
			s.logged("c")
			s.printed("d\n")
			s.logged("e")
			s.read(s.out)
			s.read(s.err)
		}, []string{"a", "b", "c", "d", "e"}},
		"a line is begun before a record": {func(s *script) {
			s.printed("a")
			s.logged("b")
			s.printed("c\n")
		}, []string{"a", "b", "…c"}},
		"only the end of a line comes after a record": {func(s *script) {
			s.printed("a")
			s.logged("b")
			s.printed("\nc\n")
		}, []string{"a", "b", "c"}},
		"a line is begun, and its rest comes with it": {func(s *script) {
			s.printed("a")
			s.logged("b")
			s.printed("c\n")
			s.read(s.out)
		}, []string{"a", "b", "…c"}},
		"the last text has no newline": {func(s *script) {
			s.logged("a")
			s.printed("b")
			s.logged("c")
			s.read(s.out)
		}, []string{"a", "b", "c"}},
		"another process is in the middle of a line": {func(s *script) {
			s.printed("a\n")
			s.out.write("b")
			s.logged("c")
			s.out.write("d\n")
			s.read(s.out)
		}, []string{"a", "c", "bd"}},
		"another process has printed before it": {func(s *script) {
			s.out.write("of a child\n")
			s.read(s.out)
			s.logged("b")
			s.read(s.say)
		}, []string{"of a child", "b"}},
		"a thread prints between the count of another and its sending": {func(s *script) {
			s.printed("a\n")
			r := said{Text: "c", After: [2]int64{s.out.counted, 0}, Busy: true}
			s.printed("b\n")
			s.read(s.out)
			s.send(r)
			s.read(s.say)
			s.printed("d\n")
			s.logged("e")
			s.printed("f\n")
			s.read(s.say)
		}, []string{"a", "b", "c", "d", "e", "f"}},
		"another process prints now and then": {func(s *script) {
			s.out.write("of a child\n")
			s.read(s.out)
			for i := range 3 {
				s.printed(fmt.Sprintf("a%d\n", i))
				s.logged(fmt.Sprintf("b%d", i))
				s.printed(fmt.Sprintf("c%d\n", i))
				s.read(s.say)
				s.read(s.out)
			}
			s.read(s.say)
			s.out.write("of another child\n")
			s.read(s.out)
			s.logged("and so it is seen")
			s.read(s.say)
			s.printed("d")
			s.logged("e")
			s.printed("f\n")
			s.read(s.say)
		}, []string{"of a child", "a0", "b0", "c0", "a1", "b1", "c1", "a2", "b2", "c2", "of another child",
			"and so it is seen", "d", "e", "…f"}},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, texts(play(t, c.act), "")); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestARecordDoesNotWaitForWhatWasPrintedElsewhere(t *testing.T) {
	lines := play(t, func(s *script) {
		s.out.counted = 100 // a file in the place of stdout
		s.logged("a")
		s.read(s.say)
		s.log.Flush()
		if !strings.Contains(s.text.String(), `"a"`) {
			t.Error("the record is not stored")
		}
		s.printed("b\n")
		s.logged("c")
		s.printed("d\n")
		s.logged("e")
		s.read(s.out)
	})
	if diff := cmp.Diff([]string{"a", "b", "c", "d", "e"}, texts(lines, "")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestARecordDoesNotWaitForWhatSomebodyHasTakenOutOfThePipe(t *testing.T) {
	lines := play(t, func(s *script) {
		s.printed("a\n")
		s.logged("b")
		s.read(s.say)
		s.out.mu.Lock()
		s.out.left = nil
		s.out.mu.Unlock()
		<-time.After(2 * reviewDelay) // of the bubble
		synctest.Wait()
		if !strings.Contains(s.text.String(), `"b"`) {
			t.Error("the record is not stored")
		}
	})
	if diff := cmp.Diff([]string{"b"}, texts(lines, "")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestWhatATaskPrintsDoesNotWaitForRequestsThatNobodyAnswers(t *testing.T) {
	lines := play(t, func(s *script) {
		s.logged("c") // behind the requests
		s.printed("a\n")
		s.read(s.out)
		s.log.Aside(true)
		synctest.Wait()
		s.log.Flush()
		if !strings.Contains(s.text.String(), `"a"`) {
			t.Error("the line is not stored")
		}
		s.log.Aside(false)
		s.printed("b\n")
	})
	if diff := cmp.Diff([]string{"a", "c", "b"}, texts(lines, "")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestALogHoldsNoMoreThanOnePieceOfWhatWaits(t *testing.T) {
	const many = 5000
	lines := play(t, func(s *script) {
		s.printed("first\n")
		for range many {
			s.complained("x\n")
			s.logged("y")
		}
		s.err.let(0, true)
		s.say.let(0, true)
		synctest.Wait()
		if got := s.say.taken; got > 1<<10 {
			t.Errorf("%d bytes of the channel were read while the first line was not", got)
		}
		if got := s.err.taken; got > 32<<10 {
			t.Errorf("%d bytes of the other stream were read while the first line was not", got)
		}
	})
	if got := texts(lines, ""); len(got) != 2*many+1 || slices.Index(got, "first") > 1 || slices.Index(got, "y") != 2 {
		t.Errorf("%d lines, beginning with %q", len(got), got[:3])
	}
}

func TestTheBeginningOfASecretIsNotShownWhereARecordBreaksALineOff(t *testing.T) {
	var m secret.Masker
	m.Add("tops3cret-top")
	lines := play(t, func(s *script) {
		s.log.mask, s.log.hides = m.Mask, m.MayBegin
		s.printed("it is tops3")
		s.logged("a")
		s.printed("cret-top")
		s.logged("b")
		s.printed(" and more\n")
	})
	if diff := cmp.Diff([]string{"it is ", "a", "b", "…*** and more"}, texts(lines, "")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A deed is something that a task does, or that is read of it.
type deed struct {
	kind string
	text string
	size int
}

// expect says what the log of a task holds of one of its streams and of its records.
func expect(deeds []deed, stream string) (want []string) {
	rest, seam := "", ""
	for i, d := range deeds {
		switch d.kind {
		case stream:
			whole := strings.Split(rest+d.text, "\n")
			for _, line := range whole[:len(whole)-1] {
				if seam+line != "…" {
					want = append(want, seam+line)
				}
				seam = ""
			}
			rest = whole[len(whole)-1]
		case streamLog:
			if rest != "" {
				want, rest, seam = append(want, seam+rest), "", "…"
			}
			want = append(want, fmt.Sprintf("record %d", i))
		}
	}
	if rest != "" {
		want = append(want, seam+rest)
	}
	return want
}

func TestNoCourseOfReadingChangesTheOrderOfALog(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		deeds := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) deed {
			return deed{
				kind: rapid.SampledFrom([]string{streamOut, streamOut, streamErr, streamLog, streamLog, "read out", "read err", "read log"}).Draw(rt, "kind"),
				text: rapid.SampledFrom([]string{"a\n", "b", "cc\ndd\n", "e\nf", "\n", strings.Repeat("long ", 100) + "\n"}).Draw(rt, "text"),
				size: rapid.SampledFrom([]int{1, 3, 60, 1000, 1 << 20}).Draw(rt, "size"),
			}
		}), 1, 60).Draw(rt, "deeds")
		lines := play(t, func(s *script) {
			for i, d := range deeds {
				switch d.kind {
				case streamOut:
					s.printed(d.text)
				case streamErr:
					s.complained(d.text)
				case streamLog:
					s.logged(fmt.Sprintf("record %d", i))
				default:
					map[string]*way{"read out": s.out, "read err": s.err, "read log": s.say}[d.kind].let(d.size, false)
					synctest.Wait()
				}
			}
		})
		for _, stream := range []string{streamOut, streamErr} {
			seen := slices.DeleteFunc(slices.Clone(lines), func(l logLine) bool { return l.S != stream && l.S != streamLog })
			if diff := cmp.Diff(expect(deeds, stream), texts(seen, "")); diff != "" {
				rt.Fatalf("%s (-want +got):\n%s", stream, diff)
			}
		}
	})
}
