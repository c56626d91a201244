package config

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"ostro.dev/ostro/internal/core/spelling"
)

// Check says what the configuration names and the machine does not have: the Python, the DAG folder, and what stands for
// images. Validate cannot, since a client's configuration may be read on another machine than the server's.
func (c Config) Check() error {
	var errs []error
	bad := func(key string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w%s", key, err, c.where(key)))
		}
	}
	bad("python", program(c.Python))
	if c.Origins["dags"] != FromDefault && c.DAGs != filepath.Join(c.Home, "dags") { // the home's own is made
		bad("dags", folder(c.DAGs))
	}
	for _, pattern := range slices.Sorted(maps.Keys(c.Images)) {
		image := c.Images[pattern]
		bad("images."+pattern+".dir", folder(image.Dir))
		if image.Python != "" {
			bad("images."+pattern+".python", program(image.Python))
		}
	}
	return errors.Join(errs...)
}

// program says why a path, or a name on PATH, cannot be run.
func program(name string) error {
	_, err := exec.LookPath(name)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, exec.ErrNotFound):
		return fmt.Errorf("there is no program %s on PATH", name)
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("there is no program %s%s", name, sibling(name))
	}
	return fmt.Errorf("%s cannot be run: %w", name, errors.Unwrap(err))
}

// folder says why a path is no folder.
func folder(path string) error {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("there is no folder %s%s", path, sibling(path))
	case err != nil:
		return err
	case !info.IsDir():
		return fmt.Errorf("%s is not a folder", path)
	}
	return nil
}

// sibling suggests what stands where the first missing part of a path should be.
func sibling(path string) string {
	path = filepath.Clean(path)
	for parent := filepath.Dir(path); parent != path; path, parent = parent, filepath.Dir(parent) {
		entries, err := os.ReadDir(parent)
		if err != nil {
			continue
		}
		var names []string
		for _, e := range entries {
			if !strings.HasPrefix(e.Name(), ".") {
				names = append(names, e.Name())
			}
		}
		if near := spelling.Nearest(filepath.Base(path), names); near != "" {
			return "; did you mean " + filepath.Join(parent, near) + "?"
		}
		return ""
	}
	return ""
}
