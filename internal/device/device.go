// Package device asks a machine what GPUs it has and what they are doing. It knows one technology: NVIDIA's nvidia-smi.
//
// It promises an answer within the time it is given, an error in words that say what to look at, and that a machine without
// nvidia-smi is not asked anything. Memory is in bytes. The package must not know what the GPUs are wanted for, nor how a
// program is started: its Runner says that.
package device

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"ostro.dev/ostro/internal/core/gpu"
)

// A Runner runs a program to its end and returns what it wrote to its standard output. Code is its exit code; err says that
// it did not run, or not to its end in the time ctx gives.
type Runner func(ctx context.Context, path string, args ...string) (out []byte, code int, err error)

// SMI asks nvidia-smi.
type SMI struct {
	path    string
	run     Runner
	visible *string // CUDA_VISIBLE_DEVICES of this process, nil when it is not set
	root    string  // of /dev and /proc
}

// New returns what asks nvidia-smi, if it is in the PATH. environ is the environment of this process.
func New(run Runner, environ []string) *SMI {
	s := &SMI{run: run, root: "/"}
	if path, err := exec.LookPath("nvidia-smi"); err == nil {
		s.path = path
	}
	for _, entry := range environ {
		if v, set := strings.CutPrefix(entry, "CUDA_VISIBLE_DEVICES="); set {
			s.visible = &v
		}
	}
	return s
}

// There tells whether there is anybody to ask.
func (s *SMI) There() bool { return s.path != "" }

// Inventory lists the GPUs; of one that is partitioned, its slices. When CUDA_VISIBLE_DEVICES is set where this process was
// started, only those it names are there.
func (s *SMI) Inventory(ctx context.Context) ([]gpu.Device, error) {
	if !s.There() {
		if s.nodes() > 0 {
			return nil, errors.New("there are NVIDIA devices in /dev, but no nvidia-smi in the PATH of the worker to ask")
		}
		return nil, nil
	}
	rows, err := s.ask(ctx, "--query-gpu=index,uuid,name,memory.total,mig.mode.current")
	if old := (*exitError)(nil); errors.As(err, &old) && old.code == 2 { // a driver that knows nothing of slices
		rows, err = s.ask(ctx, "--query-gpu=index,uuid,name,memory.total")
	}
	if err != nil {
		if isNone(err) && s.nodes() == 0 {
			return nil, nil // the program is installed, the machine has no GPU
		}
		return nil, err
	}
	var all []gpu.Device
	parted := map[int]bool{}
	for _, r := range rows {
		if len(r) < 4 {
			return nil, fmt.Errorf("nvidia-smi answers what is not understood: %q", strings.Join(r, ", "))
		}
		index, err := strconv.Atoi(r[0])
		if err != nil {
			return nil, fmt.Errorf("nvidia-smi answers what is not understood: %q", strings.Join(r, ", "))
		}
		memory, _ := mebibytes(r[3]) // a GPU that shares the machine's memory does not say
		parted[index] = len(r) > 4 && r[4] == "Enabled"
		all = append(all, gpu.Device{UUID: r[1], Index: index, Name: r[2], Memory: memory})
	}
	if slices.ContainsFunc(all, func(d gpu.Device) bool { return parted[d.Index] }) {
		if all, err = s.withSlices(ctx, all, parted); err != nil {
			return nil, err
		}
	}
	return s.only(all), nil
}

// slice is a line of nvidia-smi -L: "  MIG 1g.10gb     Device  0: (UUID: MIG-…)".
var (
	wholeLine = regexp.MustCompile(`^GPU (\d+): `)
	sliceLine = regexp.MustCompile(`^\s+MIG (\S+)\s+Device\s+(\d+): \(UUID: (\S+)\)`)
	sliceSize = regexp.MustCompile(`\.(\d+)gb`)
)

// withSlices replaces partitioned GPUs by their slices. What a slice is called says how large it is.
func (s *SMI) withSlices(ctx context.Context, all []gpu.Device, parted map[int]bool) ([]gpu.Device, error) {
	out, err := s.output(ctx, "-L")
	if err != nil {
		return nil, err
	}
	found := slices.DeleteFunc(slices.Clone(all), func(d gpu.Device) bool { return parted[d.Index] })
	index := 0
	for line := range strings.Lines(string(out)) {
		if m := wholeLine.FindStringSubmatch(line); m != nil {
			index, _ = strconv.Atoi(m[1])
		}
		m := sliceLine.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		d := gpu.Device{UUID: m[3], Index: index, MIG: true, Name: "MIG " + m[1]}
		d.Slice, _ = strconv.Atoi(m[2])
		if size := sliceSize.FindStringSubmatch(m[1]); size != nil {
			gb, _ := strconv.ParseInt(size[1], 10, 64)
			d.Memory = gb << 30
		}
		found = append(found, d)
	}
	return found, nil
}

// only keeps the devices that CUDA_VISIBLE_DEVICES names, by index or by the beginning of a UUID. As in CUDA, what comes
// behind a name that is no device does not count.
func (s *SMI) only(all []gpu.Device) []gpu.Device {
	if s.visible == nil {
		return all
	}
	var kept []gpu.Device
	for name := range strings.SplitSeq(*s.visible, ",") {
		name = strings.TrimSpace(name)
		index, err := strconv.Atoi(name)
		n := len(kept)
		for _, d := range all {
			if err == nil && d.Index == index || err != nil && name != "" && strings.HasPrefix(d.UUID, name) {
				kept = append(kept, d)
			}
		}
		if len(kept) == n {
			break
		}
	}
	slices.SortStableFunc(kept, func(a, b gpu.Device) int { return a.Index - b.Index })
	return kept
}

// A Sample is one look at the GPUs.
type Sample struct {
	Devices   map[string]DeviceUse // by UUID
	Processes []ProcessUse
}

// DeviceUse is what a device is doing.
type DeviceUse struct {
	Memory int64
	Busy   float64 // percent
}

// ProcessUse is the memory a process has on a device.
type ProcessUse struct {
	PID    int
	UUID   string
	Memory int64
}

// Sample looks what the GPUs are doing. What nvidia-smi does not say of a device or process is left out.
func (s *SMI) Sample(ctx context.Context) (Sample, error) {
	out := Sample{Devices: map[string]DeviceUse{}}
	rows, err := s.ask(ctx, "--query-gpu=uuid,memory.used,utilization.gpu")
	if err != nil {
		return out, err
	}
	for _, r := range rows {
		if len(r) < 3 {
			continue
		}
		memory, _ := mebibytes(r[1])
		busy, _ := strconv.ParseFloat(r[2], 64)
		out.Devices[r[0]] = DeviceUse{Memory: memory, Busy: busy}
	}
	rows, err = s.ask(ctx, "--query-compute-apps=pid,gpu_uuid,used_gpu_memory")
	if err != nil {
		return out, err
	}
	for _, r := range rows {
		if len(r) < 3 {
			continue
		}
		pid, err := strconv.Atoi(r[0])
		memory, known := mebibytes(r[2])
		if err == nil && known {
			out.Processes = append(out.Processes, ProcessUse{PID: pid, UUID: r[1], Memory: memory})
		}
	}
	return out, nil
}

// exitError is an end with an exit code other than 0.
type exitError struct {
	code int
	text string
}

func (e *exitError) Error() string {
	return fmt.Sprintf("nvidia-smi ended with exit code %d: %s", e.code, e.text)
}

// isNone tells whether nvidia-smi says that there is no GPU, no driver or no library of it.
func isNone(err error) bool {
	var e *exitError
	return errors.As(err, &e) && (e.code == 6 || e.code == 9 || e.code == 12)
}

// ask puts a question and returns the rows of the answer.
func (s *SMI) ask(ctx context.Context, query string) ([][]string, error) {
	out, err := s.output(ctx, query, "--format=csv,noheader,nounits")
	if err != nil {
		return nil, err
	}
	r := csv.NewReader(strings.NewReader(string(out)))
	r.TrimLeadingSpace, r.FieldsPerRecord, r.LazyQuotes = true, -1, true
	rows, err := r.ReadAll()
	if err != nil {
		return nil, fmt.Errorf("nvidia-smi answers what is not understood: %w", err)
	}
	for _, row := range rows {
		for i := range row {
			row[i] = strings.TrimSpace(row[i])
		}
	}
	return rows, nil
}

func (s *SMI) output(ctx context.Context, args ...string) ([]byte, error) {
	out, code, err := s.run(ctx, s.path, args...)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return nil, fmt.Errorf("nvidia-smi did not answer in time and was killed; does `nvidia-smi` by hand? (the driver may hang: see dmesg)")
	case err != nil:
		return nil, fmt.Errorf("run nvidia-smi: %w", err)
	case code != 0:
		return nil, &exitError{code, firstLine(out)}
	}
	return out, nil
}

// nodes counts the NVIDIA devices in /dev.
func (s *SMI) nodes() int {
	found, _ := filepath.Glob(filepath.Join(s.root, "dev/nvidia[0-9]*"))
	return len(found)
}

func mebibytes(text string) (int64, bool) {
	n, err := strconv.ParseInt(strings.TrimSuffix(text, " MiB"), 10, 64)
	return n << 20, err == nil
}

func firstLine(out []byte) string {
	line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	return fmt.Sprintf("%.300s", line)
}
