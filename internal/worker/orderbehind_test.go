package worker

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// failed has the task log a traceback and wait until it is stored.
func (s *script) failed(text string) {
	s.send(said{Text: text, After: [2]int64{s.out.counted, s.err.counted}, Begun: [2]bool{s.out.begun, s.err.begun}, Behind: true})
	for _, w := range []*way{s.say, s.out, s.err} {
		w.let(0, true)
	}
	synctest.Wait()
	for _, w := range []*way{s.say, s.out, s.err} {
		w.let(0, false)
	}
}

func TestATracebackStandsBehindAllThatAnybodyHasWritten(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		deeds := rapid.SliceOfN(rapid.SampledFrom([]string{"print", "write", "write to stderr", "begin a line", "log", "read", "read log"}), 0, 30).Draw(rt, "deeds")
		var written int
		lines := play(t, func(s *script) {
			for i, d := range deeds {
				text := fmt.Sprintf("%d\n", i)
				switch d {
				case "print":
					s.printed(text)
				case "write": // a library in C, or a child
					s.out.write(text)
				case "write to stderr":
					s.err.write(text)
				case "begin a line":
					s.out.write("begun ")
				case "log":
					s.logged(fmt.Sprint(i))
				case "read":
					s.read(s.out)
				case "read log":
					s.read(s.say)
				}
				if d == "print" || strings.HasPrefix(d, "write") || d == "log" {
					written++
				}
			}
			s.failed("the traceback")
			s.printed("after it\n")
			s.read(s.out)
		})
		got := texts(lines, "")
		at := slices.Index(got, "the traceback")
		after := slices.DeleteFunc(got[at+1:], func(text string) bool { return text == "…" })
		if diff := cmp.Diff([]string{"after it"}, trimmed(after)); diff != "" || at < written {
			rt.Fatalf("%d lines before it, want %d or more; after it (-want +got):\n%s\n%q", at, written, diff, got)
		}
	})
}

// trimmed takes the mark off lines that go on.
func trimmed(lines []string) []string {
	out := []string{}
	for _, line := range lines {
		out = append(out, strings.TrimPrefix(line, "…"))
	}
	return out
}

func TestATracebackDoesNotWaitForWhatIsWrittenWithoutEnd(t *testing.T) {
	lines := play(t, func(s *script) {
		s.out.write("a\n")
		s.send(said{Text: "the traceback", Behind: true})
		s.read(s.say) // it waits for a
		s.out.write("b\n")
		s.read(s.out)
		s.out.write("c\n")
	})
	if diff := cmp.Diff([]string{"a", "the traceback", "b", "c"}, texts(lines, "")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
