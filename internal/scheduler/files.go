package scheduler

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"ostro.dev/ostro/internal/core/trigger"
)

// fileThere tells what FileTrigger wants to know: whether a path, or a pattern as Python's glob reads it, stands for a file or
// for a folder with a file somewhere in it.
func fileThere(pattern string, recursive bool) bool {
	if !trigger.HasMagic(pattern) {
		return holdsFile(pattern)
	}
	segments := strings.Split(filepath.ToSlash(pattern), "/")
	start := "."
	if segments[0] == "" {
		start, segments = "/", segments[1:]
	}
	return walk(start, segments, recursive)
}

// walk follows the segments of a pattern from a folder.
func walk(dir string, segments []string, recursive bool) bool {
	if len(segments) == 0 {
		return holdsFile(dir)
	}
	first, rest := segments[0], segments[1:]
	if first == "**" && recursive {
		if walk(dir, rest, recursive) {
			return true
		}
		for _, e := range entries(dir) {
			below := filepath.Join(dir, e.Name())
			if !strings.HasPrefix(e.Name(), ".") && (isDir(below) && walk(below, segments, recursive) || len(rest) == 0 && holdsFile(below)) {
				return true
			}
		}
		return false
	}
	if !trigger.HasMagic(first) {
		return walk(filepath.Join(dir, first), rest, recursive)
	}
	for _, e := range entries(dir) {
		if trigger.Match(first, e.Name()) && walk(filepath.Join(dir, e.Name()), rest, recursive) {
			return true
		}
	}
	return false
}

func entries(dir string) []fs.DirEntry {
	es, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	return es
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// holdsFile tells whether a path is a file, or a folder with one in it at any depth.
func holdsFile(path string) bool {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return false
	case !info.IsDir():
		return info.Mode().IsRegular()
	}
	found := false
	_ = filepath.WalkDir(path, func(_ string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			found = true
			return fs.SkipAll
		}
		return nil
	})
	return found
}
