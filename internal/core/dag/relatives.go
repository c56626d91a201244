package dag

import "slices"

// Roots returns the tasks that wait for nothing, in order of declaration.
func (x *Index) Roots() []int { return x.without(x.upstream) }

// Leaves returns the tasks nothing waits for, in order of declaration.
func (x *Index) Leaves() []int { return x.without(x.downstream) }

func (x *Index) without(edges [][]int) []int {
	var found []int
	for p := range edges {
		if len(edges[p]) == 0 {
			found = append(found, p)
		}
	}
	return found
}

// Ancestors returns every task before a task, however far, in topological order.
func (x *Index) Ancestors(pos int) []int { return x.closure([]int{pos}, x.upstream) }

// Descendants returns every task after a task, however far, in topological order.
func (x *Index) Descendants(pos int) []int { return x.closure([]int{pos}, x.downstream) }

// Relatives widens a selection of task ids by what comes before and after it, in topological order, the selection
// included. Unknown ids are left out.
func (x *Index) Relatives(ids []string, upstream, downstream bool) []string {
	var from []int
	for _, id := range ids {
		if p, ok := x.pos[id]; ok {
			from = append(from, p)
		}
	}
	picked := slices.Clone(from)
	if upstream {
		picked = append(picked, x.closure(from, x.upstream)...)
	}
	if downstream {
		picked = append(picked, x.closure(from, x.downstream)...)
	}
	return x.idsInOrder(picked)
}

// WithSetups widens a selection by the setups its tasks need and the teardowns of those setups: who clears a task must
// set up its resources again, and tear them down after it.
func (x *Index) WithSetups(ids []string) []string {
	var picked []int
	for _, id := range ids {
		p, ok := x.pos[id]
		if !ok {
			continue
		}
		picked = append(picked, p)
		for _, s := range x.relevantSetups(p) {
			picked = append(picked, s)
			for _, d := range x.downstream[s] {
				if x.At(d).Teardown {
					picked = append(picked, d)
				}
			}
		}
	}
	return x.idsInOrder(picked)
}

// closure returns what can be reached from a set of positions, without those it starts from unless they are reached.
func (x *Index) closure(from []int, edges [][]int) []int {
	seen := make([]bool, x.Len())
	stack := slices.Clone(from)
	for len(stack) > 0 {
		p := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		for _, n := range edges[p] {
			if !seen[n] {
				seen[n] = true
				stack = append(stack, n)
			}
		}
	}
	var reached []int
	for _, p := range x.topo {
		if seen[p] {
			reached = append(reached, p)
		}
	}
	return reached
}

func (x *Index) idsInOrder(positions []int) []string {
	picked := make([]bool, x.Len())
	for _, p := range positions {
		picked[p] = true
	}
	var ids []string
	for _, p := range x.topo {
		if picked[p] {
			ids = append(ids, x.At(p).ID)
		}
	}
	return ids
}
