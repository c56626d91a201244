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
	for i := range maxCompiled {
		c.Index(&dag.DAG{ID: fmt.Sprint(i), Tasks: []dag.Task{{ID: "a"}}})
	}
	if len(c.indexes) > maxCompiled {
		t.Errorf("%d versions are kept, more than %d", len(c.indexes), maxCompiled)
	}
	if got := c.Index(first); got == nil || got.Task("a") == nil {
		t.Error("a version that was forgotten is not compiled again")
	}
}
