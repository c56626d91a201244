package app

import (
	"fmt"
	"strings"

	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/scheduler"
)

// StopReport says what a stop in order did.
type StopReport struct {
	// Ended and Killed count the tasks that ended after being asked to, and those that had to be killed.
	Ended, Killed int
	// Stored is true when the results of all of them are in the database; the rest waits in the spool.
	Stored bool
	// Unanswered is true when the worker did not say in time what became of its tasks.
	Unanswered bool
	// Kept is true when the tasks were left running with the worker, whose process id Worker is.
	Kept   bool
	Worker int
	// Successor is the process id of the server that took over; 0 for none.
	Successor int
	// Tasks are what was running, the oldest first.
	Tasks []StoppedTask
	// Early is true when the server had not come up: it knew no task by name. Open counts what it left open then.
	Early bool
	Open  int
	// Failed is true when the server could not start at all.
	Failed bool
}

// left is how many tasks were left running.
func (r StopReport) left() int {
	if r.Kept {
		return len(r.Tasks) + r.Open
	}
	return 0
}

// StoppedTask is a task that was running when its server stopped.
type StoppedTask struct {
	// Name is the DAG and the task, "dag.task" or "dag.task[3]", RunID the DAG run.
	Name, RunID string
	Try         int
	// What is what was done about it: "kept", "ended" or "killed".
	What string
	// Next says in words what follows; empty for a task that was kept.
	Next string
}

// String is the task in words, as "dag.task try 1 (run r)".
func (t StoppedTask) String() string {
	return fmt.Sprintf("%s try %d (run %s)", t.Name, t.Try, t.RunID)
}

// shownTasks is how many tasks a report names.
const shownTasks = 20

// Lines are the tasks that were ended, one a line, for the words before String.
func (r StopReport) Lines() []string {
	if r.Kept {
		return nil
	}
	var out []string
	for i, t := range r.Tasks {
		if i == shownTasks {
			return append(out, fmt.Sprintf("… and %d more.", len(r.Tasks)-i))
		}
		out = append(out, fmt.Sprintf("%s %s: %s.", strings.ToUpper(t.What[:1])+t.What[1:], t, t.Next))
	}
	return out
}

// String is the report in words.
func (r StopReport) String() string {
	switch {
	case r.Failed:
		return "could not start, and has touched no task; it says why where it was started"
	case r.Kept:
		return r.keptWords()
	case r.Unanswered:
		return "stopped: the worker did not say in time what became of its tasks; the next start finds out"
	}
	switch {
	case r.Early && r.Ended+r.Killed == 0:
		return "stopped before it had come up: no worker was running a task"
	case r.Early:
		return fmt.Sprintf("stopped before it had come up: %s ended, %d killed, their results wait in the spool for the next start", tasks(r.Ended), r.Killed)
	}
	results := "results stored"
	switch {
	case r.Ended+r.Killed == 0:
		results = "nothing was running"
	case !r.Stored:
		results = "some results wait in the spool for the next start"
	}
	return fmt.Sprintf("stopped: %s ended, %d killed, %s", tasks(r.Ended), r.Killed, results)
}

func (r StopReport) keptWords() string {
	done, whose := "stopped", "the next server"
	if r.Successor != 0 {
		done, whose = fmt.Sprintf("handed over to process %d", r.Successor), "it"
	}
	if r.Early {
		return fmt.Sprintf("%s before it had come up: what is open (%s) stays with the worker for %s", done, tasks(r.Open), whose)
	}
	if len(r.Tasks) == 0 {
		return done + ": nothing was running"
	}
	with := "the worker"
	if r.Worker != 0 {
		with = fmt.Sprintf("the worker (process %d)", r.Worker)
	}
	var names []string
	for i, t := range r.Tasks {
		if i == shownTasks {
			names = append(names, fmt.Sprintf("and %d more", len(r.Tasks)-i))
			break
		}
		names = append(names, t.String())
	}
	return fmt.Sprintf("%s: left %d running %s with %s for %s: %s", done, len(r.Tasks), strings.TrimPrefix(tasks(len(r.Tasks)), fmt.Sprint(len(r.Tasks))+" "),
		with, whose, strings.Join(names, ", "))
}

func tasks(n int) string {
	if n == 1 {
		return "1 task"
	}
	return fmt.Sprintf("%d tasks", n)
}

// stoppedTask describes an attempt for a report.
func stoppedTask(u scheduler.Unfinished, what string) StoppedTask {
	name := u.DAGID
	if u.TaskID != "" {
		name += "." + u.TaskID
	}
	if u.MapIndex >= 0 {
		name += fmt.Sprintf("[%d]", u.MapIndex)
	}
	if u.Callback != "" {
		name += " " + u.Callback
	}
	return StoppedTask{Name: name, RunID: u.RunID, Try: u.TryNumber, What: what}
}

// follows says what comes after an attempt that a stop has ended. ti is its task instance as it is now.
func follows(a run.Attempt, ti run.TaskInstance) string {
	switch {
	case a.EndedAt == nil:
		return "its result waits in the spool for the next start"
	case !a.Infra:
		return "it had come to its end: " + string(a.State)
	case ti.AttemptID == a.ID && ti.State == run.Failed:
		return "it has been lost too often and counts as failed"
	}
	return "it runs again at the next start, which costs no retry"
}
