package worker

import (
	"path/filepath"
	"regexp"
	"strings"
	"sync"

	"ostro.dev/ostro/internal/core/excerpt"
	"ostro.dev/ostro/internal/secret"
	"ostro.dev/ostro/protocol"
)

// placesIn returns what makes text for people name a bundle's files as they know them, where Python says at which line
// of which file something happened: in tracebacks, in warnings, in the crash reports of the interpreter. The rest of the
// text is the author's own, also where it has the path of the snapshot.
func placesIn(root, shown string) func(string) string {
	if root == "" || shown == "" || root == shown {
		return func(text string) string { return text }
	}
	root, shown = filepath.Clean(root)+"/", filepath.Clean(shown)+"/"
	place := sync.OnceValue(func() *regexp.Regexp { // few attempts need it
		// File "x.py", line 3 – x.py:3: – x.py, line 3 – x.py line 3
		return regexp.MustCompile(regexp.QuoteMeta(root) + `([^"\n:]*?\.py(?::\d|"?,? line \d))`)
	})
	replacement := strings.ReplaceAll(shown, "$", "$$") + "$1"
	return func(text string) string {
		if !strings.Contains(text, root) {
			return text
		}
		return place().ReplaceAllString(text, replacement)
	}
}

// maskedExcerpt masks a text that the runtime may have cut already, perhaps in the middle of a secret.
func maskedExcerpt(m *secret.Masker, text string) string {
	kept, words := excerpt.Seam(text)
	if words != "" {
		kept = kept[:len(kept)-m.MayBegin([]byte(kept))]
	}
	return m.Mask(kept) + words
}

// showPlaces has people see in what an import says where the bundle's files are, and not its snapshot's. It bounds the texts.
func showPlaces(d *protocol.Described, show func(string) string) {
	for i := range d.Errors {
		e := &d.Errors[i]
		e.Message, e.Traceback = excerpt.Of(show(e.Message), excerpt.Reason), excerpt.Of(show(e.Traceback), excerpt.Traceback)
	}
	for i := range d.Warnings {
		d.Warnings[i] = excerpt.Of(show(d.Warnings[i]), excerpt.Reason)
	}
	d.ForkUnsafe = show(d.ForkUnsafe)
}
