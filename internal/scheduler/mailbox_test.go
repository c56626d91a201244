package scheduler

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestWhatDoesNotWaitForTheDatabaseIsTakenOutInOrderAndTheRestKeepsItsOwn(t *testing.T) {
	box := newMailbox()
	say := func(name string, read bool, reply func(error)) {
		box.put(message{actor: name, read: read, reply: reply})
	}
	actors := func(taken []message) []string {
		var out []string
		for _, m := range taken {
			out = append(out, m.actor)
		}
		return out
	}
	expect := func(what string, got []message, want ...string) {
		t.Helper()
		if diff := cmp.Diff(want, actors(got)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	heard := func(error) {}
	say("result 1", false, nil)
	say("question 1", true, heard)
	say("command 1", false, heard)
	say("result 2", false, nil)
	expect("questions", box.takeImpatient(false), "question 1")
	expect("questions again", box.takeImpatient(false))
	say("question 2", true, heard)
	expect("questions and commands", box.takeImpatient(true), "command 1", "question 2")
	expect("nothing is impatient", box.takeImpatient(true))
	say("command 2", false, heard)
	expect("the rest", box.take(), "result 1", "result 2", "command 2")
	expect("after everything was taken", box.takeImpatient(true))
	say("command 3", false, heard)
	expect("a command that came later", box.takeImpatient(true), "command 3")
}
