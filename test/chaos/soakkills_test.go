package chaos

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// killSomething kills, stops or restarts one process of the installation and says which; "" when there is none of its kind.
func (s *soaking) killSomething() string {
	choices := 11
	if s.pg != nil {
		choices = 14
	}
	switch s.random.IntN(choices) {
	case 0:
		s.killServer()
		s.startAgain()
		return "server"
	case 1:
		if code := s.stopServer(); code != 0 {
			s.t.Errorf("the server that was asked to stop ended with %d", code)
		}
		s.startAgain()
		return "server asked to stop"
	case 2:
		return s.pause("server", []int{s.server.Process.Pid})
	case 3:
		return s.kill("worker", syscall.SIGKILL, s.workers())
	case 4:
		return s.pause("worker", s.workers())
	case 5:
		return s.kill("host", syscall.SIGKILL, s.hosts())
	case 6:
		return s.kill("host asked to stop", syscall.SIGTERM, s.hosts())
	case 7:
		return s.killFork()
	case 8:
		return s.kill("keeper", syscall.SIGKILL, s.keepers())
	case 9:
		return s.kill("triggerer", syscall.SIGKILL, s.processes("ostro triggerer"))
	case 10:
		return s.pause("triggerer", s.processes("ostro triggerer"))
	case 11:
		return s.kill("process of the database", syscall.SIGKILL, s.backends())
	case 12:
		s.pg.Kill()
		s.pg.Start(s.t)
		return "database"
	default:
		s.pg.Stop()
		s.pg.Start(s.t)
		return "database asked to stop"
	}
}

// startAgain starts the server when its database takes connections: without one it says so and ends.
func (s *soaking) startAgain() {
	if s.pg != nil {
		s.pg.Await(s.t)
	}
	s.startServer()
}

func (s *soaking) kill(what string, sig syscall.Signal, pids []int) string {
	if len(pids) == 0 || syscall.Kill(pids[s.random.IntN(len(pids))], sig) != nil {
		return ""
	}
	return what
}

// pause stops a process for a while and has it go on.
func (s *soaking) pause(what string, pids []int) string {
	if len(pids) == 0 {
		return ""
	}
	pid := pids[s.random.IntN(len(pids))]
	if syscall.Kill(pid, syscall.SIGSTOP) != nil {
		return ""
	}
	while := time.NewTimer(time.Duration(100+s.random.IntN(1200)) * time.Millisecond)
	<-while.C
	_ = syscall.Kill(pid, syscall.SIGCONT)
	return what + " paused"
}

// killFork kills a process that waits for its task. It is stopped first: one that has a task by then is let go on, since
// whoever kills a task from outside uses up one of its tries.
func (s *soaking) killFork() string {
	var forks []int
	hosts := s.hosts()
	for _, pid := range s.processes("ostro.host") {
		for _, host := range hosts {
			if parent(pid) == host {
				forks = append(forks, pid)
			}
		}
	}
	if len(forks) == 0 {
		return ""
	}
	pid := forks[s.random.IntN(len(forks))]
	if syscall.Kill(pid, syscall.SIGSTOP) != nil {
		return ""
	}
	if !strings.Contains(title(pid), "ostro.host") || !s.stopped(pid) || !strings.Contains(title(pid), "ostro.host") {
		_ = syscall.Kill(pid, syscall.SIGCONT)
		return ""
	}
	_ = syscall.Kill(pid, syscall.SIGKILL)
	return "waiting fork"
}

// stopped waits until a process that was told to stop has; false when it is gone.
func (s *soaking) stopped(pid int) bool {
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); {
		switch status(pid, "State") {
		case "T (stopped)":
			return true
		case "":
			return false
		}
	}
	return false
}

func (s *soaking) workers() []int { return s.processes("worker\x00--home") }

// keepers are the processes that only wait for another.
func (s *soaking) keepers() []int { return s.processes("ostro keeper of process") }

// hosts are the processes that keepers of hosts wait for.
func (s *soaking) hosts() (found []int) {
	for _, keeper := range s.keepers() {
		if pid := keptBy(keeper); strings.Contains(title(pid), "ostro.host") {
			found = append(found, pid)
		}
	}
	return found
}

// keptBy is the process that a keeper waits for.
func keptBy(keeper int) int {
	_, words, _ := strings.Cut(title(keeper), "of process ")
	pid, _ := strconv.Atoi(strings.TrimRight(words, "\x00 "))
	return pid
}

// backends are the processes of the database without the first, which would end them all.
func (s *soaking) backends() (found []int) {
	links, _ := filepath.Glob("/proc/[0-9]*/cwd")
	for _, link := range links {
		at, err := os.Readlink(link)
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(link)))
		if err == nil && at == s.pg.Dir() && parent(pid) != os.Getpid() {
			found = append(found, pid)
		}
	}
	return found
}

func title(pid int) string {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return string(text)
}

func parent(pid int) int {
	n, _ := strconv.Atoi(status(pid, "PPid"))
	return n
}

// status is a line of what the kernel says of a process.
func status(pid int, name string) string {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for line := range bytes.Lines(text) {
		if value, ok := bytes.CutPrefix(line, []byte(name+":")); ok {
			return string(bytes.TrimSpace(value))
		}
	}
	return ""
}
