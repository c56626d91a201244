// Package python carries the Python runtime inside the binary and lays it out on disk.
package python

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

//go:embed all:ostro all:ostro_dag all:airflow
var files embed.FS

// Extract lays the runtime out in a folder below dir that is named after its content, and returns that folder, which
// belongs on Python's search path. A folder that is there already is complete and used as it is: it appears under its
// name only when everything is in it. Folders of other versions are left alone, since their hosts may still run.
func Extract(dir string) (string, error) {
	names, hash, err := contents()
	if err != nil {
		return "", fmt.Errorf("extract the Python runtime: %w", err)
	}
	target := filepath.Join(dir, hash)
	if _, err := os.Stat(target); err == nil {
		return target, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("extract the Python runtime: %w", err)
	}
	tmp, err := os.MkdirTemp(dir, ".extract-")
	if err != nil {
		return "", fmt.Errorf("extract the Python runtime: %w", err)
	}
	defer os.RemoveAll(tmp) // what is left of it when the rename did not happen
	for _, name := range names {
		if err := extract(tmp, name); err != nil {
			return "", fmt.Errorf("extract the Python runtime: %w", err)
		}
	}
	if err := os.Chmod(tmp, 0o755); err != nil {
		return "", fmt.Errorf("extract the Python runtime: %w", err)
	}
	if err := os.Rename(tmp, target); err != nil {
		if errors.Is(err, fs.ErrExist) || exists(target) { // another process was faster
			return target, nil
		}
		return "", fmt.Errorf("extract the Python runtime: %w", err)
	}
	return target, nil
}

func exists(path string) bool { _, err := os.Stat(path); return err == nil }

// contents lists the runtime's files in order and returns the hash of their names and bytes.
func contents() (names []string, hash string, err error) {
	sum := sha256.New()
	err = fs.WalkDir(files, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name != "." && skipped(d.Name()) {
				return fs.SkipDir
			}
			return nil
		}
		if strings.HasSuffix(name, ".pyc") {
			return nil
		}
		data, err := files.ReadFile(name)
		if err != nil {
			return err
		}
		fmt.Fprintf(sum, "%s\x00%d\x00", name, len(data))
		sum.Write(data)
		names = append(names, name)
		return nil
	})
	return names, hex.EncodeToString(sum.Sum(nil))[:16], err
}

// skipped names folders that are no part of the runtime: tests, and what Python and its tools leave behind.
func skipped(folder string) bool {
	return folder == "tests" || folder == "__pycache__" || strings.HasPrefix(folder, ".")
}

func extract(dir, name string) error {
	data, err := files.ReadFile(name)
	if err != nil {
		return err
	}
	to := filepath.Join(dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Join(dir, filepath.FromSlash(path.Dir(name))), 0o755); err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o644)
}
