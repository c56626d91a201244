package daghost

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strconv"
	"syscall"
	"time"
)

// trackerPatience is how long resource trackers get for their work when everything else of a tree has been killed.
const trackerPatience = 2 * time.Second

// KillTree kills a process and everything below it. The root is stopped first and killed last, so that what it adopts
// (a task process is a subreaper) stays visible; every process is stopped before the first is killed, so that none can
// fork its way out. It returns how many were killed.
//
// Trackers of Python's multiprocessing come last. Once nobody holds their pipes any more they remove the shared memory that
// was left, and end; killed, they leave it for ever. They get a moment for it, whatever they really are.
func KillTree(root int) int {
	killed, trackers := killTree(root, true)
	return killed + awaitTrackers(trackers)
}

// killTree kills a tree; trackers, which have nothing below them, only if they are not spared. It returns those that are.
func killTree(root int, spare bool) (killed int, trackers []ProcessID) {
	if root <= 1 {
		return 0, nil
	}
	_ = syscall.Kill(root, syscall.SIGSTOP)
	spared := map[int]bool{} // false: looked at and no tracker
	skip := func(pid int) bool {
		is, seen := spared[pid]
		if !seen && spare && isTracker(pid) {
			if id, err := Identify(pid); err == nil {
				is, trackers = true, append(trackers, id)
			}
		}
		spared[pid] = is
		return is
	}
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); {
		stopped := stopBelow(root, skip)
		if len(stopped) == 0 {
			break
		}
		for pid := range stopped {
			if syscall.Kill(pid, syscall.SIGKILL) == nil {
				killed++
			}
		}
	}
	if syscall.Kill(root, syscall.SIGKILL) == nil {
		killed++
	}
	return killed, trackers
}

// stopBelow stops everything below root that is not skipped, until nothing new comes.
func stopBelow(root int, skip func(pid int) bool) map[int]bool {
	stopped := map[int]bool{}
	for {
		fresh := 0
		for _, pid := range descendantsBut(root, skip) {
			if !stopped[pid] {
				_ = syscall.Kill(pid, syscall.SIGSTOP)
				stopped[pid] = true
				fresh++
			}
		}
		if fresh == 0 {
			return stopped
		}
	}
}

// awaitTrackers waits until trackers have ended, and kills those that take too long, with what is below them. It returns
// how many processes it killed.
func awaitTrackers(trackers []ProcessID) (killed int) {
	for deadline := time.Now().Add(trackerPatience); len(trackers) > 0; time.Sleep(time.Millisecond) {
		trackers = slices.DeleteFunc(trackers, func(p ProcessID) bool { return !p.Alive() })
		if time.Now().After(deadline) {
			break
		}
	}
	for _, p := range trackers {
		n, _ := killTree(p.PID, false)
		killed += n
	}
	for end := time.Now().Add(time.Second); slices.ContainsFunc(trackers, ProcessID.Alive) && time.Now().Before(end); {
		time.Sleep(time.Millisecond) // the kernel takes its time
	}
	return killed
}

// trackerPrograms are the programs of Python's resource trackers, as their command lines show them.
var trackerPrograms = [][]byte{
	[]byte("from multiprocessing.resource_tracker import main;"),
	[]byte("from joblib.externals.loky.backend.resource_tracker import main;"),
	[]byte("from loky.backend.resource_tracker import main;"),
}

// isTracker reports whether a process looks like a resource tracker and is no fork of one.
func isTracker(pid int) bool {
	if !runsTracker(pid) {
		return false
	}
	s, err := readStat(pid)
	return err == nil && !runsTracker(s.ppid)
}

func runsTracker(pid int) bool {
	line, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
	if err != nil {
		return false
	}
	for word := range bytes.SplitSeq(line, []byte{0}) {
		if slices.ContainsFunc(trackerPrograms, func(p []byte) bool { return bytes.HasPrefix(word, p) }) {
			return true
		}
	}
	return false
}

// KillMarked kills every process whose environment carries home's marker and an instance other than the given one, and
// every process in one of the sessions, until none is left; resource trackers after all others. It returns how many
// processes it found; an error names what would not die.
func KillMarked(home, instance string, sessions []int) (int, error) {
	found := map[int]bool{}
	var spared []ProcessID
	var waiting time.Time // for trackers, since nothing else is left
	for deadline := time.Now().Add(10 * time.Second); ; {
		alive := markedOrIn(home, instance, sessions)
		if len(alive) == 0 {
			return len(found) + awaitTrackers(spared), nil
		}
		if time.Now().After(deadline) {
			return len(found), fmt.Errorf("kill processes of the former worker: %v are still there", alive)
		}
		others := slices.DeleteFunc(slices.Clone(alive), isTracker)
		switch {
		case len(others) > 0:
		case waiting.IsZero():
			waiting = time.Now()
		case time.Since(waiting) > trackerPatience:
			others = alive
		}
		for _, pid := range others {
			found[pid] = true
			_, trackers := killTree(pid, waiting.IsZero())
			spared = append(spared, trackers...)
		}
		time.Sleep(time.Millisecond) // the kernel needs a moment to take them away
	}
}

// markedOrIn returns the living processes that KillMarked is about.
func markedOrIn(home, instance string, sessions []int) (alive []int) {
	for _, s := range processes() {
		if s.pid == os.Getpid() || s.pid == 1 || s.state == 'Z' || s.state == 'X' {
			continue
		}
		if slices.Contains(sessions, s.session) || marked(s.pid, home, instance) {
			alive = append(alive, s.pid)
		}
	}
	return alive
}
