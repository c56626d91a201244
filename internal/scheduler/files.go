package scheduler

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"ostro.dev/ostro/internal/core/trigger"
)

// fileThere tells what FileTrigger wants to know: whether a path, or a pattern as Python's glob reads it, stands for a file or
// for a folder with a file somewhere in it. Once ctx has ended the answer is no.
func fileThere(ctx context.Context, pattern string, recursive bool) bool {
	g := globbing{ctx: ctx, recursive: recursive, seen: map[place]bool{}}
	if !trigger.HasMagic(pattern) {
		return g.holdsFile(pattern)
	}
	segments := strings.Split(filepath.ToSlash(pattern), "/")
	start := "."
	if segments[0] == "" {
		start, segments = "/", segments[1:]
	}
	return g.walk(start, segments)
}

// globbing is one look.
type globbing struct {
	ctx       context.Context //nolint:containedctx // of one call, handed down a recursion
	recursive bool
	// seen are the folders from which ** has been followed, or is being: it goes through symbolic links, as Python's does,
	// and they may lead round in a circle.
	seen map[place]bool
}

// place is a folder, and how many segments of the pattern were left there.
type place struct {
	device, inode uint64
	left          int
}

// walk follows the segments of a pattern from a folder.
func (g *globbing) walk(dir string, segments []string) bool {
	switch {
	case g.ctx.Err() != nil:
		return false
	case len(segments) == 0:
		return g.holdsFile(dir)
	}
	first, rest := segments[0], segments[1:]
	switch {
	case first == "**" && g.recursive:
		return g.walkDeep(dir, segments, rest)
	case !trigger.HasMagic(first):
		return g.walk(filepath.Join(dir, first), rest)
	}
	for _, e := range entries(dir) {
		if trigger.Match(first, e.Name()) && g.walk(filepath.Join(dir, e.Name()), rest) {
			return true
		}
	}
	return false
}

// walkDeep follows the segments, of which the first is **, from a folder and from all below it.
func (g *globbing) walkDeep(dir string, segments, rest []string) bool {
	at, ok := placeOf(dir, len(segments))
	if !ok || g.seen[at] {
		return false // what can be found from here has not been, or is just being looked for
	}
	g.seen[at] = true
	if g.walk(dir, rest) {
		return true
	}
	for _, e := range entries(dir) {
		below := filepath.Join(dir, e.Name())
		if !strings.HasPrefix(e.Name(), ".") && (g.walk(below, segments) || len(rest) == 0 && g.holdsFile(below)) {
			return true
		}
	}
	return false
}

// placeOf identifies a folder; false when the path is none.
func placeOf(path string, left int) (place, bool) {
	info, err := os.Stat(path)
	if err != nil || !info.IsDir() {
		return place{}, false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return place{}, false
	}
	return place{device: st.Dev, inode: st.Ino, left: left}, true
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

// holdsFile tells whether a path is a file, or a folder with one in it at any depth; as with Python's os.walk, links to
// folders are not followed below it and are no files.
func (g *globbing) holdsFile(path string) bool {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return false
	case !info.IsDir():
		return info.Mode().IsRegular()
	}
	return g.holdsAny(path)
}

func (g *globbing) holdsAny(dir string) bool {
	if g.ctx.Err() != nil {
		return false
	}
	var below []string
	for _, e := range entries(dir) {
		path := filepath.Join(dir, e.Name())
		switch {
		case e.IsDir():
			below = append(below, path)
		case e.Type()&fs.ModeSymlink == 0 || !isDir(path):
			return true
		}
	}
	for _, path := range below {
		if g.holdsAny(path) {
			return true
		}
	}
	return false
}
