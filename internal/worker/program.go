package worker

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"ostro.dev/ostro/internal/daghost"
)

// A program runs small programs of the machine, one at a time, beside the tasks.
type program struct {
	w     *Worker
	stuck *daghost.Child // one that could not be killed
}

// mostOutput is how much of a program's output is read.
const mostOutput = 1 << 20

// run runs a program to its end, or kills it when ctx ends. It returns what the program wrote to its standard output, or
// when it failed without a word there, what it wrote to its standard error. One that cannot be killed, since it hangs in a
// driver, is left alone, and no other is started beside it.
func (p *program) run(ctx context.Context, path string, args ...string) (out []byte, code int, err error) {
	if p.stuck != nil {
		select {
		case <-p.stuck.Done:
			p.stuck = nil
		default:
			return nil, 0, fmt.Errorf("process %d, which was killed, still hangs in the kernel", p.stuck.PID)
		}
	}
	stdout, theirOut, err := daghost.Pipe()
	if err != nil {
		return nil, 0, err
	}
	defer stdout.Close()
	stderr, theirErr, err := daghost.Pipe()
	if err != nil {
		theirOut.Close()
		return nil, 0, err
	}
	defer stderr.Close()
	child, err := p.w.launcher.Start(daghost.Command{
		Path: path, Args: append([]string{path}, args...), Env: baseEnv(p.w.o.Home, p.w.instance), Stdout: theirOut, Stderr: theirErr,
	})
	theirOut.Close()
	theirErr.Close()
	if err != nil {
		return nil, 0, err
	}
	var complaint []byte
	var reading sync.WaitGroup
	reading.Go(func() { out = readAll(stdout) })
	reading.Go(func() { complaint = readAll(stderr) })
	p.await(ctx, child)
	_ = stdout.SetReadDeadline(time.Now().Add(drainLimit)) // somebody it has started may hold its output
	_ = stderr.SetReadDeadline(time.Now().Add(drainLimit))
	reading.Wait()
	switch {
	case ctx.Err() != nil:
		return nil, 0, ctx.Err()
	case child.State == nil:
		return nil, 0, fmt.Errorf("its end was not seen")
	}
	if code = child.State.ExitCode(); code != 0 && len(out) == 0 {
		out = complaint
	}
	return out, code, nil
}

// await waits for the end of a program, which it kills when ctx ends.
func (p *program) await(ctx context.Context, child *daghost.Child) {
	select {
	case <-child.Done:
		return
	case <-ctx.Done():
	}
	daghost.KillTree(child.PID)
	select {
	case <-child.Done:
	case <-time.After(time.Second):
		p.stuck = child
	}
}

func readAll(f *os.File) []byte {
	b, _ := io.ReadAll(io.LimitReader(f, mostOutput)) // what came before an error is what there is
	return b
}
