package v2

import (
	"fmt"
	"testing"

	"ostro.dev/ostro/internal/core/dag"
)

func TestAVersionIsCompiledOnceHoweverManyAnswersAreAboutIt(t *testing.T) {
	var c compiled
	first := &dag.DAG{ID: "first", Tasks: []dag.Task{{ID: "a"}}}
	kept := c.Index(first)
	if c.Index(first) != kept {
		t.Error("a version was compiled twice")
	}
	second := &dag.DAG{ID: "second", Tasks: []dag.Task{{ID: "a"}}}
	keptToo := c.Index(second)
	for i := range maxCompiled - 1 {
		c.Index(&dag.DAG{ID: fmt.Sprint(i), Tasks: []dag.Task{{ID: "a"}}})
	}
	if len(c.indexes) != maxCompiled || len(c.order) != maxCompiled {
		t.Errorf("%d versions are kept in an order of %d, want %d", len(c.indexes), len(c.order), maxCompiled)
	}
	if c.Index(second) != keptToo {
		t.Error("a version was forgotten that did not have to make room")
	}
	if got := c.Index(first); got == nil || got.Task("a") == nil {
		t.Error("a version that was forgotten is not compiled again")
	}
}
