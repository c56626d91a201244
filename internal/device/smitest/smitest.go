// Package smitest puts a scripted nvidia-smi into the PATH of a test: a real program, which answers from files that the test
// writes. It is imported by tests only.
package smitest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A Machine is what the program answers.
type Machine struct {
	t   testing.TB
	dir string
}

// script answers from the files gpus, list, use and apps beside it. A file fails holds what is done in place of an answer.
const script = `#!/bin/sh
cd "$(dirname "$0")" || exit 1
echo "$*" >> asked
[ -f fails ] && . ./fails
case "$1" in
--query-gpu=index*) cat gpus ;;
--query-gpu=uuid*) cat use ;;
--query-compute-apps=*) cat apps ;;
-L) cat list ;;
*) echo "nvidia-smi of a test does not know $1"; exit 2 ;;
esac
`

// New makes a machine with so many GPUs of 80 GiB, and puts the program before everything in the PATH of the test's process
// and of those it starts.
func New(t testing.TB, gpus int) *Machine {
	t.Helper()
	m := Make(t, gpus)
	t.Setenv("PATH", m.dir+string(os.PathListSeparator)+os.Getenv("PATH"))
	return m
}

// Make makes such a machine; the caller puts Dir into the PATH of whom it starts.
func Make(t testing.TB, gpus int) *Machine {
	t.Helper()
	dir := t.TempDir()
	m := &Machine{t: t, dir: dir}
	m.write("nvidia-smi", script)
	if err := os.Chmod(filepath.Join(dir, "nvidia-smi"), 0o755); err != nil { //nolint:gosec // a program
		t.Fatal(err)
	}
	m.Has(gpus)
	m.Uses()
	return m
}

// Dir is where the program is.
func (m *Machine) Dir() string { return m.dir }

// UUID is that of the n-th GPU.
func UUID(n int) string { return fmt.Sprintf("GPU-00000000-0000-0000-0000-%012d", n) }

// Has gives the machine so many GPUs of 80 GiB.
func (m *Machine) Has(gpus int) {
	m.t.Helper()
	var of []int
	for i := range gpus {
		of = append(of, i)
	}
	m.HasOnly(of...)
}

// HasOnly gives the machine the GPUs of these numbers.
func (m *Machine) HasOnly(gpus ...int) {
	m.t.Helper()
	var list, use strings.Builder
	for _, i := range gpus {
		fmt.Fprintf(&list, "%d, %s, NVIDIA Test 80GB, 81920, Disabled\n", i, UUID(i))
		fmt.Fprintf(&use, "%s, 0, 0\n", UUID(i))
	}
	m.write("gpus", list.String())
	m.write("use", use.String())
}

// Answers writes the answer to a question: gpus, list, use or apps.
func (m *Machine) Answers(question, text string) { m.t.Helper(); m.write(question, text) }

// Process is one that uses a GPU.
type Process struct{ PID, GPU, MiB int }

// Uses says which processes use the GPUs.
func (m *Machine) Uses(ps ...Process) {
	m.t.Helper()
	var b strings.Builder
	for _, p := range ps {
		fmt.Fprintf(&b, "%d, %s, %d\n", p.PID, UUID(p.GPU), p.MiB)
	}
	m.write("apps", b.String())
}

// Fails has the program do something else before it answers: "sleep 600", "echo broken; exit 15". Empty: it answers again.
func (m *Machine) Fails(shell string) {
	m.t.Helper()
	if shell == "" {
		_ = os.Remove(filepath.Join(m.dir, "fails"))
		return
	}
	m.write("fails", shell+"\n")
}

// Asked is how often the program was run.
func (m *Machine) Asked() int {
	b, _ := os.ReadFile(filepath.Join(m.dir, "asked"))
	return strings.Count(string(b), "\n")
}

func (m *Machine) write(name, text string) {
	m.t.Helper()
	path := filepath.Join(m.dir, name)
	if err := os.WriteFile(path+".new", []byte(text), 0o644); err != nil { //nolint:gosec // read by the program
		m.t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		m.t.Fatal(err)
	}
}
