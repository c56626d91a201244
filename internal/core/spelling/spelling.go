// Package spelling finds what somebody meant who misspelt a name: a task, a DAG, a key, a command.
//
// It promises one measure of likeness for the whole program, so that the same slip gets the same help everywhere. It must
// not know what the names stand for, nor how a message about them is worded.
package spelling

import "strings"

// shortestPrefix is how much of a name must be there for its beginning to stand for the whole.
const shortestPrefix = 3

// Nearest returns the known name most like the given one, or "" when none is close enough to be a likely misspelling. Case
// does not count. A third of the letters may be wrong; a known name that begins with the given one is as near as one slip.
// Among equals the first in the alphabet wins, so that the answer does not depend on the order of known.
func Nearest(name string, known []string) string {
	given := []rune(strings.ToLower(name))
	best, limit := "", max(1, (len(given)+1)/3)
	least := limit + 1
	for _, k := range known {
		other := []rune(strings.ToLower(k))
		d := least + 1
		if away := len(other) - len(given); max(away, -away) <= least {
			d = distance(given, other)
		}
		if len(given) >= shortestPrefix && strings.HasPrefix(string(other), string(given)) {
			d = min(d, 1)
		}
		if d >= max(len(given), len(other)) && d > 0 { // nothing in common
			continue
		}
		if d < least || d == least && best != "" && k < best {
			best, least = k, d
		}
	}
	return best
}

// Distance is the number of letters to add, drop, change or swap with their neighbour to get from a to b.
func Distance(a, b string) int { return distance([]rune(a), []rune(b)) }

func distance(a, b []rune) int {
	before, prev, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(prev[j]+1, row[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, prev, row = prev, row, before
	}
	return prev[len(b)]
}
