package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
)

// input is what commands read: somebody's answer, or a pipe's text. Waiting for it ends with the command's context, for a
// Ctrl-C at a question must not wait for the answer.
type input struct {
	io.Reader
	over <-chan struct{}
}

// Read reads, or gives up. The read that it gives up cannot be ended and takes a buffer of its own: it ends with the process.
func (in *input) Read(to []byte) (int, error) {
	type result struct {
		text []byte
		err  error
	}
	done := make(chan result, 1)
	go func() {
		buffer := make([]byte, len(to))
		n, err := in.Reader.Read(buffer)
		done <- result{buffer[:n], err}
	}()
	select {
	case r := <-done:
		return copy(to, r.text), r.err
	case <-in.over:
		return 0, context.Canceled
	}
}

// plainInput is the reader behind an input, which may be a terminal.
func plainInput(r io.Reader) io.Reader {
	if in, ok := r.(*input); ok {
		return in.Reader
	}
	return r
}

// agreed asks a question at a terminal. No answer is no.
func (c *command) agreed(question string) (bool, error) {
	fmt.Fprintf(c.Out, "%s [y/N] ", question)
	answer, err := bufio.NewReader(c.In).ReadString('\n')
	if errors.Is(err, context.Canceled) {
		fmt.Fprintln(c.Out)
		return false, err
	}
	return strings.HasPrefix(strings.ToLower(strings.TrimSpace(answer)), "y"), nil
}
