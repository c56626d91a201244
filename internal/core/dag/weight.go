package dag

import "math"

// priorityWeights computes every task's effective priority. As in Airflow, a downstream weight sums the weights of all
// distinct tasks that follow, and values stay within 32 bits.
func (x *Index) priorityWeights() []int {
	own := make([]int, x.Len())
	for p := range own {
		if own[p] = x.At(p).PriorityWeight; own[p] == 0 {
			own[p] = 1
		}
	}
	weights := make([]int, x.Len())
	var down, up *closureSums
	for p := range weights {
		switch x.At(p).WeightRule {
		case WeightAbsolute:
			weights[p] = own[p]
		case WeightUpstream:
			if up == nil {
				up = sumClosures(own, x.upstream, x.topo)
			}
			weights[p] = up.total[p]
		default:
			if down == nil {
				down = sumClosures(own, x.downstream, reversed(x.topo))
			}
			weights[p] = down.total[p]
		}
		weights[p] = min(max(weights[p], math.MinInt32), math.MaxInt32)
	}
	return weights
}

// closureSums holds, per node, the sum of weights over the node and everything reachable from it.
type closureSums struct {
	own, seen []int
	next      [][]int
	total     []int
}

// sumClosures visits nodes in an order in which next[p] comes before p. A node with one successor needs a single addition;
// only where paths fork can they meet again, and only there is the closure walked.
func sumClosures(own []int, next [][]int, order []int) *closureSums {
	c := &closureSums{own: own, next: next, seen: make([]int, len(own)), total: make([]int, len(own))}
	var stack []int
	for mark, p := range order {
		switch len(next[p]) {
		case 0:
			c.total[p] = own[p]
		case 1:
			c.total[p] = own[p] + c.total[next[p][0]]
		default:
			c.total[p], stack = c.walk(p, mark+1, stack[:0])
		}
	}
	return c
}

func (c *closureSums) walk(from, mark int, stack []int) (int, []int) {
	sum := 0
	c.seen[from] = mark
	stack = append(stack, from)
	for len(stack) > 0 {
		p := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		sum += c.own[p]
		for _, n := range c.next[p] {
			if c.seen[n] != mark {
				c.seen[n] = mark
				stack = append(stack, n)
			}
		}
	}
	return sum, stack
}

func reversed(order []int) []int {
	r := make([]int, len(order))
	for i, p := range order {
		r[len(order)-1-i] = p
	}
	return r
}
