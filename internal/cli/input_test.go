package cli

import (
	"bytes"
	"context"
	"io"
	"strings"
	"testing"
)

func TestACtrlCAtAQuestionOrAPipeDoesNotWaitForTheAnswer(t *testing.T) {
	t.Setenv("OSTRO_HOME", t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	silent, hands := io.Pipe() // nobody types
	defer hands.Close()
	c := &command{Streams: Streams{In: &input{Reader: silent, over: ctx.Done()}, Out: writer(func(b []byte) {
		if strings.Contains(string(b), "[y/N]") {
			cancel()
		}
	})}}
	if ok, err := c.agreed("Delete it?"); ok || codeAlone(err) != exitInterrupted {
		t.Errorf("agreed: %t, %v", ok, err)
	}
	var errs bytes.Buffer
	code := Run(ctx, []string{"variables", "set", "k", "-"}, Streams{In: silent, Out: io.Discard, Err: &errs})
	if code != exitInterrupted || errs.String() != "ostro: interrupted\n" {
		t.Errorf("exit code %d, %s", code, errs.String())
	}
}

func codeAlone(err error) int {
	code, _ := codeOf(err)
	return code
}

// writer calls a function with what is written.
type writer func([]byte)

func (w writer) Write(b []byte) (int, error) {
	w(b)
	return len(b), nil
}

func TestAnAnswerIsReadAsItWasTyped(t *testing.T) {
	for typed, want := range map[string]bool{"y\n": true, " Yes\n": true, "n\n": false, "": false, "\n": false} {
		c := &command{Streams: Streams{In: &input{Reader: strings.NewReader(typed)}, Out: io.Discard}}
		if ok, err := c.agreed("Delete it?"); ok != want || err != nil {
			t.Errorf("%q: %t, %v", typed, ok, err)
		}
	}
	text := strings.Repeat("a long text ", 1000)
	if got, err := io.ReadAll(&input{Reader: strings.NewReader(text)}); err != nil || string(got) != text {
		t.Errorf("%d bytes of %d, %v", len(got), len(text), err)
	}
}
