package daghost

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// A ProcessID names a process beyond the reuse of its number: the number, when it started, and in which boot.
type ProcessID struct {
	PID int `json:"pid"`
	// StartTicks is field 22 of /proc/PID/stat: clock ticks since boot.
	StartTicks uint64 `json:"start_ticks"`
	BootID     string `json:"boot_id"`
}

// Identify returns the identity of a living process or zombie.
func Identify(pid int) (ProcessID, error) {
	s, err := readStat(pid)
	if err != nil {
		return ProcessID{}, fmt.Errorf("identify process %d: %w", pid, err)
	}
	return ProcessID{PID: pid, StartTicks: s.start, BootID: bootID()}, nil
}

// Alive reports whether exactly this process still runs. A zombie does not.
func (p ProcessID) Alive() bool {
	if p.PID <= 0 || p.BootID != bootID() {
		return false
	}
	s, err := readStat(p.PID)
	return err == nil && s.start == p.StartTicks && s.state != 'Z' && s.state != 'X'
}

// Stopped reports whether this process is stopped, as by SIGSTOP or a debugger.
func (p ProcessID) Stopped() bool {
	s, err := readStat(p.PID)
	return err == nil && s.start == p.StartTicks && (s.state == 'T' || s.state == 't')
}

// Signal sends a signal if exactly this process still runs.
func (p ProcessID) Signal(sig syscall.Signal) error {
	if !p.Alive() {
		return os.ErrProcessDone
	}
	return syscall.Kill(p.PID, sig)
}

var bootID = sync.OnceValue(func() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(b))
})

// stat is the part of /proc/PID/stat that matters here.
type stat struct {
	pid     int
	state   byte
	ppid    int
	session int
	cpu     uint64 // utime + stime, ticks
	start   uint64
}

func readStat(pid int) (stat, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return stat{}, err
	}
	// The command name stands in parentheses and may hold anything, parentheses too.
	end := bytes.LastIndexByte(b, ')')
	if end < 0 || end+2 >= len(b) {
		return stat{}, errors.New("malformed stat")
	}
	f := bytes.Fields(b[end+2:]) // f[0] is field 3
	if len(f) < 20 {
		return stat{}, errors.New("malformed stat")
	}
	num := func(i int) uint64 { n, _ := strconv.ParseUint(string(f[i]), 10, 64); return n }
	return stat{
		pid: pid, state: f[0][0], ppid: int(num(1)), session: int(num(3)), cpu: num(11) + num(12), start: num(19),
	}, nil
}

// CPUTicks returns the processor time a process has used, in clock ticks.
func CPUTicks(pid int) uint64 {
	s, err := readStat(pid)
	if err != nil {
		return 0
	}
	return s.cpu
}

// ResidentBytes returns a process's resident memory and the part of it no file or shared mapping backs.
func ResidentBytes(pid int) (resident, private int64) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/statm")
	if err != nil {
		return 0, 0
	}
	f := bytes.Fields(b)
	if len(f) < 3 {
		return 0, 0
	}
	page := int64(os.Getpagesize())
	rss, _ := strconv.ParseInt(string(f[1]), 10, 64)
	shared, _ := strconv.ParseInt(string(f[2]), 10, 64)
	return rss * page, (rss - shared) * page
}

// processes returns every process now in /proc.
func processes() []stat {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1)
	var all []stat
	for _, name := range names {
		if name[0] < '0' || name[0] > '9' {
			continue
		}
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		if s, err := readStat(pid); err == nil {
			all = append(all, s)
		}
	}
	return all
}

// Descendants returns the living processes below one, that one not included.
func Descendants(pid int) []int { return descendants(pid) }

// descendants returns the living processes below root, root not included.
func descendants(root int) []int { return descendantsBut(root, nil) }

// descendantsBut returns them without those that are skipped and what is below these.
func descendantsBut(root int, skip func(pid int) bool) []int {
	children := map[int][]stat{}
	for _, s := range processes() {
		children[s.ppid] = append(children[s.ppid], s)
	}
	var found []int
	queue := []int{root}
	for len(queue) > 0 {
		next := queue[0]
		queue = queue[1:]
		for _, c := range children[next] {
			if skip != nil && skip(c.pid) {
				continue
			}
			queue = append(queue, c.pid) // below a zombie there may be living ones, for an instant
			if c.state != 'Z' && c.state != 'X' {
				found = append(found, c.pid)
			}
		}
	}
	return found
}

// SignalBelow sends a signal to everything below root, not to root itself.
func SignalBelow(root int, sig syscall.Signal) {
	if root <= 1 {
		return
	}
	for _, pid := range descendants(root) {
		_ = syscall.Kill(pid, sig)
	}
}

// Names of the environment variables that mark every process of a worker, however far down the tree.
const (
	EnvHome     = "OSTRO_WORKER_HOME"
	EnvInstance = "OSTRO_WORKER_INSTANCE"
)

// marked reports whether a process belongs to another worker instance of home.
func marked(pid int, home, instance string) bool {
	env, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
	if err != nil || len(env) == 0 {
		return false
	}
	ours, other := false, true
	for v := range bytes.SplitSeq(env, []byte{0}) {
		if s, ok := bytes.CutPrefix(v, []byte(EnvHome+"=")); ok && string(s) == home {
			ours = true
		}
		if s, ok := bytes.CutPrefix(v, []byte(EnvInstance+"=")); ok && string(s) == instance {
			other = false
		}
	}
	return ours && other
}

// IsMarked reports whether a process carries home's marker.
func IsMarked(pid int, home string) bool { return marked(pid, home, "") }

// HoldersOf returns the processes, other than this one, that have the pipe behind f open.
func HoldersOf(f *os.File) []int {
	info, err := f.Stat()
	if err != nil {
		return nil
	}
	sys, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	link := fmt.Sprintf("pipe:[%d]", sys.Ino)
	var holders []int
	for _, s := range processes() {
		if s.pid == os.Getpid() {
			continue
		}
		dir := "/proc/" + strconv.Itoa(s.pid) + "/fd"
		fds, err := os.ReadDir(dir)
		if err != nil {
			continue
		}
		for _, fd := range fds {
			if to, err := os.Readlink(dir + "/" + fd.Name()); err == nil && to == link {
				holders = append(holders, s.pid)
				break
			}
		}
	}
	return holders
}

// Unread returns how much of what was written to a socket the other side has not read yet, at least roughly: zero means
// that it has read all.
func Unread(c *net.UnixConn) (int, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	var n int
	var failed error
	if err := raw.Control(func(fd uintptr) { n, failed = unix.IoctlGetInt(int(fd), unix.TIOCOUTQ) }); err != nil {
		return 0, err
	}
	return n, failed
}

// SetSubreaper makes this process the parent of orphans below it.
func SetSubreaper() error {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("become a subreaper: %w", err)
	}
	return nil
}

// SessionIsOurs reports whether the session this process led can only be its own: the kernel does not reuse a number
// while a session carries it, so a stranger with the number means that the session is gone.
func (p ProcessID) SessionIsOurs() bool {
	if p.PID <= 1 || p.BootID != bootID() {
		return false
	}
	s, err := readStat(p.PID)
	return err != nil || s.start == p.StartTicks
}
