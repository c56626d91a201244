package worker

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ostro.dev/ostro/internal/secret"
)

// logLine is one line of a log file.
type logLine struct {
	T time.Time `json:"t"`
	S string    `json:"s"`
	L string    `json:"l"`
	M string    `json:"m"`
	N string    `json:"n"`
}

// readLog reads a log as a follower does: a torn last line and one that is no JSON are left out.
func readLog(t *testing.T, path string) []logLine {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var lines []logLine
	for line := range bytes.Lines(data) {
		var l logLine
		if bytes.HasSuffix(line, []byte("\n")) && json.Unmarshal(line, &l) == nil {
			lines = append(lines, l)
		}
	}
	return lines
}

func texts(lines []logLine, stream string) []string {
	var out []string
	for _, l := range lines {
		if stream == "" || l.S == stream {
			out = append(out, l.M)
		}
	}
	return out
}

func testLog(t *testing.T, mask func(string) string) (*logFile, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "a", "attempt=1.log")
	if mask == nil {
		mask = func(s string) string { return s }
	}
	l := newLog(context.Background(), path, mask, 0, slog.New(slog.DiscardHandler))
	t.Cleanup(l.Close)
	return l, path
}

func TestALogKeepsLinesInOrderAndALastOneWithoutNewline(t *testing.T) {
	l, path := testLog(t, nil)
	in := "one\n\n::group::setup\ntwo\r\n\"quoted\\\t\x01\xff€\x7f\"\nlast"
	l.Copy(iotest(in, 3), streamOut)
	l.Close()
	want := []string{"one", "", "::group::setup", "two", "\"quoted\\\t\x01�€\x7f\"", "last"}
	if diff := cmp.Diff(want, texts(readLog(t, path), streamOut)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestARecordTooLongForAReaderGoesOnInTheNextLine(t *testing.T) {
	l, path := testLog(t, nil)
	long := strings.Repeat("a€\x00", 2_000_000) // 10 MB
	l.Add(entry{at: time.Now(), stream: streamLog, level: "info", text: long})
	l.Add(entry{at: time.Now(), stream: streamLog, level: "info", text: "short"})
	l.Close()
	data, _ := os.ReadFile(path)
	for line := range bytes.Lines(data) {
		if len(line) > 4<<20 { // what the API gives of one line
			t.Errorf("a line of %d bytes", len(line))
		}
	}
	got := texts(readLog(t, path), "")
	var whole strings.Builder
	for i, s := range got[:len(got)-1] {
		if i > 0 {
			s = strings.TrimPrefix(s, "…")
		}
		if i < len(got)-2 {
			s = strings.TrimSuffix(s, "…")
		}
		whole.WriteString(s)
	}
	if whole.String() != long || got[len(got)-1] != "short" {
		t.Errorf("the record does not add up: %d lines, %d bytes", len(got), whole.Len())
	}
}

// iotest reads s in pieces of n bytes.
func iotest(s string, n int) io.Reader { return &pieces{s, n} }

type pieces struct {
	s string
	n int
}

func (p *pieces) Read(b []byte) (int, error) {
	if p.s == "" {
		return 0, io.EOF
	}
	n := copy(b[:min(p.n, len(b))], p.s)
	p.s = p.s[n:]
	return n, nil
}

func TestAnOverlongLineIsCutAndMarkedAndNothingOfItIsLost(t *testing.T) {
	for _, piece := range []int{1 << 10, 1 << 20} {
		l, path := testLog(t, nil)
		long := strings.Repeat("ä123456789", 30_000) // 330 000 bytes, so that a seam meets a two-byte character
		l.Copy(iotest(long+"\nshort\n", piece), streamOut)
		l.Close()
		got := texts(readLog(t, path), "")
		var whole strings.Builder
		for _, s := range got[:len(got)-1] {
			if len(s) > maxLine+6 {
				t.Errorf("a line of %d bytes", len(s))
			}
			whole.WriteString(strings.Trim(s, "…"))
		}
		if whole.String() != long || got[len(got)-1] != "short" {
			t.Errorf("pieces of %d: the line does not add up: %d lines, %d bytes", piece, len(got), whole.Len())
		}
	}
}

func TestASecretAcrossTheSeamOfALongLineIsMasked(t *testing.T) {
	var m secret.Masker
	m.Add("tops3cret-value")
	for shift := -20; shift <= 5; shift++ {
		l, path := testLog(t, m.Mask)
		l.Copy(iotest(strings.Repeat("x", maxLine+shift)+"tops3cret-value"+strings.Repeat("y", 9000)+"\n", 5000), streamOut)
		l.Close()
		all := strings.Join(texts(readLog(t, path), ""), "")
		all = strings.ReplaceAll(all, "…", "")
		if strings.Contains(all, "tops3") || strings.Contains(all, "value") || strings.Count(all, secret.Hidden) != 1 {
			t.Errorf("shift %d: the secret shows, in whole or in part", shift)
		}
	}
}

func TestALogTornByACrashIsMendedWhenItIsOpenedAgain(t *testing.T) {
	l, path := testLog(t, nil)
	l.System("info", "first")
	l.Close()
	f, _ := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	io.WriteString(f, `{"t":"2024-01-01T00:00:0`)
	f.Close()
	again := newLog(context.Background(), path, func(s string) string { return s }, 0, slog.New(slog.DiscardHandler))
	again.System("info", "second")
	again.Close()
	if diff := cmp.Diff([]string{"first", "second"}, texts(readLog(t, path), "")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestALogStopsAtItsLimitAndSaysSo(t *testing.T) {
	l, path := testLog(t, nil)
	l.limit = 10_000
	l.Copy(iotest(strings.Repeat("0123456789\n", 10_000), 4096), streamOut)
	l.Close()
	lines := readLog(t, path)
	if info, _ := os.Stat(path); info.Size() > 11_000 {
		t.Errorf("%d bytes were kept", info.Size())
	}
	if last := lines[len(lines)-1]; !strings.Contains(last.M, "limit of 10000 bytes") {
		t.Errorf("the last line is %q", last.M)
	}
}

func TestALogWaitsForAFullDiskAndLosesNothing(t *testing.T) {
	l, path := testLog(t, nil)
	tries := 0
	l.put = func(p []byte) (int, error) {
		if tries++; tries < 4 {
			n, _ := l.write(p[:len(p)/3]) // a full disk takes a part
			return n, syscall.ENOSPC
		}
		return l.write(p)
	}
	var want []string
	for i := range 1000 {
		want = append(want, fmt.Sprintf("line %d", i))
	}
	l.Copy(strings.NewReader(strings.Join(want, "\n")), streamOut)
	l.Close()
	if diff := cmp.Diff(want, texts(readLog(t, path), "")); diff != "" {
		t.Errorf("after %d tries (-want +got):\n%s", tries, diff)
	}
}

func TestALogThatNoDiskTakesDoesNotKeepTheWorkerFromEnding(t *testing.T) {
	l, _ := testLog(t, nil)
	ctx, cancel := context.WithCancel(context.Background())
	l.ctx = ctx
	l.put = func(p []byte) (int, error) { return 0, syscall.ENOSPC }
	l.System("info", "never written")
	closed := make(chan struct{})
	go func() { l.Close(); close(closed) }()
	cancel()
	<-closed
}

func BenchmarkLogCopy(b *testing.B) {
	l := newLog(context.Background(), filepath.Join(b.TempDir(), "x.log"), func(s string) string { return s }, 0, slog.New(slog.DiscardHandler))
	defer l.Close()
	line := strings.Repeat("a line of some eighty characters that a task might print while it is busy doing", 1) + "\n"
	text := strings.Repeat(line, 1000)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		l.Copy(strings.NewReader(text), streamOut)
	}
}
