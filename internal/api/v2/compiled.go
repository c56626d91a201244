package v2

import (
	"sync"

	"ostro.dev/ostro/internal/core/dag"
)

// maxCompiled is how many DAG versions are kept compiled; then all are forgotten.
const maxCompiled = 256

// compiled keeps the indexes of the DAG versions that answers were about: priority weights and the way from a name to a task
// cost time by the number of tasks, and a version never changes.
type compiled struct {
	mu      sync.Mutex
	indexes map[*dag.DAG]func() *dag.Index
}

// Index returns the index of a version as the store keeps it.
func (c *compiled) Index(d *dag.DAG) *dag.Index {
	c.mu.Lock()
	index, known := c.indexes[d]
	if !known {
		if c.indexes == nil || len(c.indexes) >= maxCompiled {
			c.indexes = map[*dag.DAG]func() *dag.Index{}
		}
		index = sync.OnceValue(func() *dag.Index { return dag.NewIndex(d) })
		c.indexes[d] = index
	}
	c.mu.Unlock()
	return index()
}
