package worker

import (
	"bytes"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// An oomWatch tells whether the kernel killed a process for want of memory. The kernel counts such kills; who they hit
// stands in its log, which not everybody may read.
type oomWatch struct {
	mu    sync.Mutex
	count uint64
	at    time.Time
	// Sources, replaced in tests.
	vmstat func() ([]byte, error)
	kmsg   func() ([]byte, bool)
}

func newOOMWatch() *oomWatch {
	w := &oomWatch{
		vmstat: func() ([]byte, error) { return os.ReadFile("/proc/vmstat") },
		kmsg:   readKernelLog,
	}
	w.count = w.read()
	w.at = time.Now()
	return w
}

// Note remembers the count from time to time, so that a kill of long ago is not taken for one of now.
func (w *oomWatch) Note() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if time.Since(w.at) > 10*time.Second {
		w.count, w.at = w.read(), time.Now()
	}
}

// Explain says in words why a process ended by a SIGKILL that we did not send.
func (w *oomWatch) Explain(pid int) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := w.read()
	counted := now > w.count
	w.count, w.at = now, time.Now()
	if log, readable := w.kmsg(); readable && bytes.Contains(log, []byte("Killed process "+strconv.Itoa(pid)+" (")) {
		return "killed by the kernel: out of memory"
	}
	if counted {
		return "killed by the kernel: out of memory (the kernel counts such a kill at that time)"
	}
	return "killed by SIGKILL, which neither Ostro nor the kernel's memory guard sent"
}

// read returns how many processes the kernel has killed for memory since boot.
func (w *oomWatch) read() uint64 {
	data, err := w.vmstat()
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(data)) {
		if v, ok := strings.CutPrefix(line, "oom_kill "); ok {
			n, _ := strconv.ParseUint(strings.TrimSpace(v), 10, 64)
			return n
		}
	}
	return 0
}

// readKernelLog returns what the kernel's log holds, if we may read it.
func readKernelLog() ([]byte, bool) {
	fd, err := syscall.Open("/dev/kmsg", syscall.O_RDONLY|syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, false
	}
	defer syscall.Close(fd)
	var all []byte
	buf := make([]byte, 8<<10)
	for len(all) < 8<<20 {
		n, err := syscall.Read(fd, buf)
		if err == syscall.EPIPE || err == syscall.EINTR { // records overwritten while we read
			continue
		}
		if err != nil || n <= 0 {
			break
		}
		all = append(all, buf[:n]...)
	}
	return all, true
}
