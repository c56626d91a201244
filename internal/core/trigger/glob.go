package trigger

import "strings"

// HasMagic tells whether a path is a pattern, as Python's glob sees it.
func HasMagic(pattern string) bool { return strings.ContainsAny(pattern, "*?[") }

// Match tells whether a file name matches one segment of a pattern, as Python's fnmatch does: * and ? stand for anything,
// [!a] for all but a, and names that begin with a dot are found only by patterns that do.
func Match(pattern, name string) bool {
	if strings.HasPrefix(name, ".") && !strings.HasPrefix(pattern, ".") {
		return false
	}
	return match([]rune(pattern), []rune(name))
}

func match(p, s []rune) bool {
	star, mark := -1, 0 // the last * and where its match ends for now
	i, j := 0, 0
	for j < len(s) {
		if i < len(p) {
			if p[i] == '*' {
				star, mark = i, j
				i++
				continue
			}
			if ok, width := matchOne(p[i:], s[j]); ok {
				i, j = i+width, j+1
				continue
			}
		}
		if star < 0 {
			return false
		}
		mark++
		i, j = star+1, mark
	}
	for i < len(p) && p[i] == '*' {
		i++
	}
	return i == len(p)
}

// matchOne matches one character and says how much of the pattern that took.
func matchOne(p []rune, c rune) (ok bool, width int) {
	switch p[0] {
	case '?':
		return true, 1
	case '[':
		if in, width := matchSet(p, c); width > 0 {
			return in, width
		}
	}
	return p[0] == c, 1
}

// matchSet matches a set of characters; width 0 when it is not closed and so is none.
func matchSet(p []rune, c rune) (in bool, width int) {
	i := 1
	not := i < len(p) && p[i] == '!'
	if not {
		i++
	}
	first := i
	for i < len(p) && (p[i] != ']' || i == first) {
		low, high := p[i], p[i]
		if i+2 < len(p) && p[i+1] == '-' && p[i+2] != ']' {
			high = p[i+2]
			i += 2
		}
		in = in || low <= c && c <= high
		i++
	}
	if i >= len(p) {
		return false, 0
	}
	return in != not, i + 1
}
