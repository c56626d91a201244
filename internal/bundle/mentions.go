package bundle

import (
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
)

var (
	importWords = regexp.MustCompile(`\bfrom\s+[.\w]+\s+import\s+(?:\([^)]*\)|(?:[^\n\\]|\\\n?)*)|\bimport\s+(?:[^\n\\]|\\\n?)*`)
	word        = regexp.MustCompile(`\w+`)
	// anyImport says that what a file imports does not stand in its import statements alone.
	anyImport = regexp.MustCompile(`\b(?:importlib|__import__|import_module|import_string|runpy|pkgutil|exec|sys\.path)\b`)
)

// mentions are the modules of the bundle that a file may import, by what it and they say: of an import that failed or
// never ended, nobody knows what it would have read. A module that is not there yet is missing here, so that the mentions
// change when it comes. Too many do little harm: the file is parsed once more than it had to be.
func mentions(t *tree, root, file string) map[string]digest {
	out := map[string]digest{}
	words := map[string]bool{}
	for dir := range strings.SplitSeq(path.Dir(file), "/") {
		words[dir] = true
	}
	readWords(root, file, words)
	for found := true; found; {
		found = false
		for _, f := range t.files {
			if _, have := out[f.Path]; have || f.Path == file || path.Ext(f.Path) != ".py" || !named(f.Path, words) {
				continue
			}
			out[f.Path], found = f.Digest, true
			readWords(root, f.Path, words)
		}
	}
	return out
}

// named says that every part of a module's name is among the words.
func named(file string, words map[string]bool) bool {
	for part := range strings.SplitSeq(strings.TrimSuffix(strings.TrimSuffix(file, ".py"), "/__init__"), "/") {
		if !words[part] {
			return false
		}
	}
	return true
}

// readWords adds the words of a file's import statements; all its words when it has other ways to import.
func readWords(root, file string, words map[string]bool) {
	text, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(file)))
	if err != nil {
		return // a snapshot that is gone: nothing can be said, and the file's own content decides alone
	}
	statements := [][]byte{text}
	if !anyImport.Match(text) {
		statements = importWords.FindAll(text, -1)
	}
	for _, s := range statements {
		for _, w := range word.FindAll(s, -1) {
			words[string(w)] = true
		}
	}
}

// sameMentions says that a file mentions the same in two trees. Only what may be imported differently is looked at twice.
func (w *Watcher) sameMentions(file string, then, now *tree) bool {
	return then.version == now.version || maps.Equal(w.mentionsIn(then, file), w.mentionsIn(now, file))
}

func (w *Watcher) mentionsIn(t *tree, file string) map[string]digest {
	return mentions(t, snapshotPath(w.cfg.Snapshots, t.version), file)
}
