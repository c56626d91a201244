package bundle

import (
	"regexp"
	"strings"
)

// ignoreList holds the patterns of .airflowignore files from the bundle's root down to one folder. An ignored file is
// not parsed; it stays part of the snapshot, since others may import it.
type ignoreList struct {
	regexps bool // Airflow 2's syntax; globs as in .gitignore otherwise
	rules   []ignoreRule
}

type ignoreRule struct {
	re     *regexp.Regexp
	negate bool
	base   string // folder of the .airflowignore file, "" for the root
}

// with adds the patterns of one file, which lies in the folder base. Patterns that cannot be read are left out.
func (l ignoreList) with(base, text string) ignoreList {
	out := ignoreList{regexps: l.regexps, rules: append([]ignoreRule(nil), l.rules...)}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if i := strings.Index(line, "#"); i == 0 || (l.regexps && i > 0) {
			line = strings.TrimSpace(line[:i])
		}
		if line == "" {
			continue
		}
		r := ignoreRule{base: base}
		var err error
		if l.regexps {
			r.re, err = regexp.Compile(line)
		} else {
			if rest, ok := strings.CutPrefix(line, "!"); ok {
				r.negate, line = true, rest
			}
			r.re, err = regexp.Compile(globToRegexp(line))
		}
		if err == nil {
			out.rules = append(out.rules, r)
		}
	}
	return out
}

// matches says whether a path relative to the bundle is ignored; the last rule that matches decides.
func (l ignoreList) matches(path string) bool {
	ignored := false
	for _, r := range l.rules {
		p := path
		if !l.regexps && r.base != "" {
			p = strings.TrimPrefix(path, r.base+"/")
		}
		if r.re.MatchString(p) {
			ignored = !r.negate
		}
	}
	return ignored
}

// globToRegexp translates a .gitignore pattern: without a slash inside it matches at any depth, and a match of a folder
// is a match of everything in it.
func globToRegexp(pattern string) string {
	pattern = strings.TrimSuffix(pattern, "/")
	anchored := strings.Contains(pattern, "/")
	pattern = strings.TrimPrefix(pattern, "/")
	var b strings.Builder
	b.WriteString("^")
	if !anchored {
		b.WriteString("(?:.*/)?")
	}
	for i := 0; i < len(pattern); i++ {
		switch c := pattern[i]; {
		case strings.HasPrefix(pattern[i:], "**/"):
			b.WriteString("(?:.*/)?")
			i += 2
		case strings.HasPrefix(pattern[i:], "**"):
			b.WriteString(".*")
			i++
		case c == '*':
			b.WriteString("[^/]*")
		case c == '?':
			b.WriteString("[^/]")
		case c == '[':
			end := strings.IndexByte(pattern[i:], ']')
			if end < 0 {
				b.WriteString(`\[`)
				continue
			}
			class := pattern[i+1 : i+end]
			if rest, ok := strings.CutPrefix(class, "!"); ok {
				class = "^" + rest
			}
			b.WriteString("[" + class + "]")
			i += end
		default:
			b.WriteString(regexp.QuoteMeta(string(c)))
		}
	}
	b.WriteString("(?:/.*)?$")
	return b.String()
}
