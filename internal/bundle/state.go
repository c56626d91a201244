package bundle

import (
	"path/filepath"
	"slices"
	"strings"
)

// stateDirs are the folders of the home that the program itself fills. Reading snapshots into a snapshot would never end.
var stateDirs = []string{"bundles", "runtime", "run", "spool", "logs", "blobs", "s3"}

// homeState knows, by resolved paths, what of the home is no part of a DAG folder.
type homeState struct {
	root, home string
}

func stateOf(root, home string) homeState {
	return homeState{root: realPath(root), home: realPath(home)}
}

// realPath is a path without symbolic links; what does not exist stays as it is.
func realPath(path string) string {
	if path == "" {
		return ""
	}
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	if resolved, err := filepath.EvalSymlinks(path); err == nil {
		return resolved
	}
	return path
}

// holds says that a resolved path is above the DAG folder (Airflow refuses such a loop), or is the home, or lies in it but not in the DAG folder, or is one of the program's own
// folders though the DAG folder is the home itself.
func (s homeState) holds(resolved string) bool {
	resolved = realPath(resolved)
	if resolved != s.root && within(s.root, resolved) {
		return true
	}
	if s.home == "" || !within(resolved, s.home) {
		return false
	}
	return !within(resolved, s.root) || slices.ContainsFunc(stateDirs, func(name string) bool {
		dir := filepath.Join(s.home, name)
		return within(resolved, dir) && !within(s.root, dir)
	})
}

// within says that path is dir or lies below it.
func within(path, dir string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, "../")
}
