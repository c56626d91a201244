package bundle

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// errMoved says that a file changed between being read and being copied.
var errMoved = errors.New("the folder changed while it was copied")

const tempPrefix = ".tmp-"

func snapshotPath(root, version string) string { return filepath.Join(root, version) }

// snapshot copies a tree to its folder, unless that exists. A snapshot appears under its name only when it is complete.
func snapshot(ctx context.Context, t *tree, root string) (string, error) {
	path := snapshotPath(root, t.version)
	if _, err := os.Stat(path); err == nil {
		now := time.Now()
		return path, os.Chtimes(path, now, now) // its age since last used, for the collector
	}
	if err := os.MkdirAll(root, 0o755); err != nil {
		return "", err
	}
	tmp, err := os.MkdirTemp(root, tempPrefix)
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(tmp)
	if err := os.Chmod(tmp, 0o755); err != nil {
		return "", err
	}
	for _, f := range t.files {
		if err := ctx.Err(); err != nil {
			return "", err
		}
		if err := copyFile(f, filepath.Join(tmp, filepath.FromSlash(f.Path))); err != nil {
			return "", err
		}
	}
	if err := os.Rename(tmp, path); err != nil {
		if _, statErr := os.Stat(path); statErr != nil {
			return "", err
		}
	}
	return path, nil
}

func copyFile(f bundleFile, to string) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	in, err := os.Open(f.abs)
	if err != nil {
		if gone(err) == nil {
			return errMoved
		}
		return err
	}
	defer in.Close()
	mode := os.FileMode(0o444)
	if f.exec {
		mode = 0o555
	}
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	h := sha256.New()
	_, err = io.Copy(io.MultiWriter(out, h), in)
	if err := errors.Join(err, out.Close()); err != nil {
		return fmt.Errorf("copy %s: %w", f.Path, err)
	}
	if digest(h.Sum(nil)) != f.Digest {
		return errMoved
	}
	return nil
}

// collect removes snapshots that are not in use, but for the newest keep ones, and what an interrupted copy left.
func collect(root string, used map[string]bool, keep int, now time.Time) (removed []string, err error) {
	entries, err := os.ReadDir(root)
	if err != nil {
		return nil, err
	}
	type candidate struct {
		name string
		at   time.Time
	}
	var unused []candidate
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !e.IsDir() {
			continue
		}
		switch {
		case strings.HasPrefix(e.Name(), tempPrefix):
			if now.Sub(info.ModTime()) > time.Hour {
				err = os.RemoveAll(filepath.Join(root, e.Name()))
			}
		case !used[e.Name()] && now.Sub(info.ModTime()) > time.Minute:
			unused = append(unused, candidate{e.Name(), info.ModTime()})
		}
		if err != nil {
			return removed, err
		}
	}
	slices.SortFunc(unused, func(a, b candidate) int { return b.at.Compare(a.at) })
	for _, c := range unused[min(keep, len(unused)):] {
		if err := os.RemoveAll(filepath.Join(root, c.name)); err != nil {
			return removed, err
		}
		removed = append(removed, c.name)
	}
	return removed, nil
}
