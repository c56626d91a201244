package bundle

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Limits that keep a DAG folder a DAG folder: pointing at a home directory by mistake is an error, not an afternoon.
const (
	maxFileSize  = 5 << 20 // of files that are not code
	maxFiles     = 20_000
	maxTotalSize = 1 << 30
)

// digest is the SHA-256 of a file's content.
type digest [sha256.Size]byte

// bundleFile is one file that belongs to the bundle.
type bundleFile struct {
	Path      string // relative to the bundle, with slashes
	abs       string
	Digest    digest
	mtime     time.Time
	exec      bool
	candidate bool // may declare DAGs
}

// tree is the content of the folder at one moment.
type tree struct {
	files   []bundleFile // sorted by Path
	byPath  map[string]digest
	dirs    []string // absolute, to be watched
	version string   // hash of everything above
}

// candidates returns the files that may declare DAGs.
func (t *tree) candidates() []string {
	var out []string
	for _, f := range t.files {
		if f.candidate {
			out = append(out, f.Path)
		}
	}
	return out
}

// mtime is when a file was last written.
func (t *tree) mtime(file string) time.Time {
	at, _ := slices.BinarySearchFunc(t.files, file, func(f bundleFile, path string) int { return strings.Compare(f.Path, path) })
	return t.files[at].mtime
}

// hashCache remembers digests by path, size and modification time.
type hashCache map[string]cachedHash

type cachedHash struct {
	size    int64
	mtime   time.Time
	digest  digest
	wordsOK bool
}

// scan reads a DAG folder. Of the home, it reads only what lies in that folder.
func scan(root, home, compat string, cache hashCache) (*tree, error) {
	info, err := os.Stat(root)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return nil, errors.New("not a folder")
	}
	s := scanner{root: root, cache: cache, seenDirs: map[string]bool{}, seenFiles: map[string]bool{}, now: time.Now()}
	s.state = stateOf(root, home)
	s.tree = &tree{byPath: map[string]digest{}}
	if err := s.dir(root, "", ignoreList{regexps: compat == "airflow2"}); err != nil {
		return nil, err
	}
	for path := range cache {
		if !s.seenFiles[path] {
			delete(cache, path)
		}
	}
	slices.SortFunc(s.tree.files, func(a, b bundleFile) int { return strings.Compare(a.Path, b.Path) })
	h := sha256.New()
	for _, f := range s.tree.files {
		fmt.Fprintf(h, "%d %s %x %t\n", len(f.Path), f.Path, f.Digest, f.exec)
		s.tree.byPath[f.Path] = f.Digest
	}
	s.tree.version = hex.EncodeToString(h.Sum(nil)[:16])
	return s.tree, nil
}

type scanner struct {
	root      string
	cache     hashCache
	tree      *tree
	seenDirs  map[string]bool // real paths, against loops of symbolic links
	seenFiles map[string]bool
	state     homeState
	total     int64
	now       time.Time
}

// skipDir are folders that never hold DAG code.
var skipDir = map[string]bool{"__pycache__": true, "node_modules": true}

func (s *scanner) dir(abs, rel string, ignore ignoreList) error {
	resolved, err := filepath.EvalSymlinks(abs)
	if err != nil {
		return gone(err)
	}
	if s.seenDirs[resolved] || (rel != "" && s.state.holds(resolved)) {
		return nil
	}
	s.seenDirs[resolved] = true
	entries, err := os.ReadDir(abs)
	if err != nil {
		if rel == "" {
			return err
		}
		return gone(err)
	}
	if rel != "" && slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return e.Name() == "pyvenv.cfg" }) {
		return nil // a virtual environment
	}
	s.tree.dirs = append(s.tree.dirs, abs)
	if b, err := os.ReadFile(filepath.Join(abs, ".airflowignore")); err == nil {
		ignore = ignore.with(rel, string(b))
	}
	for _, e := range entries {
		if err := s.entry(e, abs, rel, ignore); err != nil {
			return err
		}
	}
	return nil
}

func (s *scanner) entry(e fs.DirEntry, parentAbs, parentRel string, ignore ignoreList) error {
	name := e.Name()
	if strings.HasPrefix(name, ".") {
		return nil
	}
	abs := filepath.Join(parentAbs, name)
	rel := name
	if parentRel != "" {
		rel = parentRel + "/" + name
	}
	if e.Type()&fs.ModeSymlink != 0 {
		if resolved, err := filepath.EvalSymlinks(abs); err != nil || s.state.holds(resolved) {
			return gone(err)
		}
	}
	info, err := os.Stat(abs) // follows symbolic links, as Airflow does
	if err != nil {
		return gone(err)
	}
	if info.IsDir() {
		if skipDir[name] {
			return nil
		}
		return s.dir(abs, rel, ignore)
	}
	if !info.Mode().IsRegular() || (info.Size() > maxFileSize && !isCode(name)) || isBytecode(name) {
		return nil
	}
	h, err := s.hash(abs, info)
	if err != nil {
		return gone(err)
	}
	s.total += info.Size()
	if len(s.tree.files) >= maxFiles || s.total > maxTotalSize {
		return fmt.Errorf("more than %d files or %d MB: is this really a DAG folder? (set dags: in ostro.yaml, or --dags)",
			maxFiles, maxTotalSize>>20)
	}
	s.tree.files = append(s.tree.files, bundleFile{
		Path: rel, abs: abs, Digest: h.digest, mtime: info.ModTime(), exec: info.Mode()&0o100 != 0,
		candidate: strings.HasSuffix(name, ".py") && h.wordsOK && !ignore.matches(rel),
	})
	return nil
}

// hash returns the digest of a file, from the cache when size and time are unchanged. A file written in the last two
// seconds is always read, since another write may leave its time as it is.
func (s *scanner) hash(abs string, info fs.FileInfo) (cachedHash, error) {
	s.seenFiles[abs] = true
	c, ok := s.cache[abs]
	if ok && c.size == info.Size() && c.mtime.Equal(info.ModTime()) && s.now.Sub(c.mtime) > 2*time.Second {
		return c, nil
	}
	b, err := os.ReadFile(abs)
	if err != nil {
		return cachedHash{}, err
	}
	c = cachedHash{size: info.Size(), mtime: info.ModTime(), digest: sha256.Sum256(b), wordsOK: mayDeclareDAGs(b)}
	s.cache[abs] = c
	return c, nil
}

// mayDeclareDAGs is Airflow's safe mode: a file that does not hold the words is not imported.
func mayDeclareDAGs(b []byte) bool {
	lower := bytes.ToLower(b)
	return bytes.Contains(lower, []byte("dag")) &&
		(bytes.Contains(lower, []byte("airflow")) || bytes.Contains(lower, []byte("ostro")))
}

func isCode(name string) bool {
	switch filepath.Ext(name) {
	case ".py", ".pyi", ".so", ".zip", ".whl", ".jar", ".sql", ".sh":
		return true
	}
	return false
}

func isBytecode(name string) bool {
	ext := filepath.Ext(name)
	return ext == ".pyc" || ext == ".pyo"
}

// gone turns "it is not there any more" into nothing: files vanish while a folder is read. A file that may not be read
// is an error, since leaving it out would remove its DAGs.
func gone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
