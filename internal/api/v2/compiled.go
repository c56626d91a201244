package v2

import (
	"sync"

	"ostro.dev/ostro/internal/core/dag"
)

// maxCompiled is how many DAG versions are kept compiled; then the one compiled first makes room.
const maxCompiled = 256

// compiled keeps the indexes of the DAG versions that answers were about: priority weights and the way from a name to a task
// cost time by the number of tasks, and a version never changes.
type compiled struct {
	mu      sync.Mutex
	indexes map[*dag.DAG]func() *dag.Index
	order   []*dag.DAG // as they were compiled, the oldest first
}

// Index returns the index of a version as the store keeps it.
func (c *compiled) Index(d *dag.DAG) *dag.Index { return c.of(d)() }

// of finds or begins the index of a version; it is made outside the lock.
func (c *compiled) of(d *dag.DAG) func() *dag.Index {
	c.mu.Lock()
	defer c.mu.Unlock()
	if index, known := c.indexes[d]; known {
		return index
	}
	if c.indexes == nil {
		c.indexes = map[*dag.DAG]func() *dag.Index{}
	}
	if len(c.order) == maxCompiled {
		delete(c.indexes, c.order[0])
		c.order = append(c.order[:0], c.order[1:]...)
	}
	index := sync.OnceValue(func() *dag.Index { return dag.NewIndex(d) })
	c.indexes[d], c.order = index, append(c.order, d)
	return index
}
