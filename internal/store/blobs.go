package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// blobs is a folder of files named after the SHA-256 of what is in them. A file is complete and durable before it has
// its name, so a transaction that refers to it can be committed. Nothing is ever changed; what nobody refers to any
// more is collected by Clean, after a grace that leaves time between writing a file and committing the row.
type blobs struct{ dir string }

const (
	blobGrace  = time.Hour
	tempPrefix = ".new-"
)

func (b blobs) path(name string) string { return filepath.Join(b.dir, name[:2], name[2:]) }

// put stores a value and returns its name.
func (b blobs) put(value []byte) (name string, err error) {
	sum := sha256.Sum256(value)
	name = hex.EncodeToString(sum[:])
	path := b.path(name)
	if b.keep(name) == nil { // it is there
		return name, nil
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", blobError(err)
	}
	f, err := os.CreateTemp(dir, tempPrefix+"*")
	if err != nil {
		return "", blobError(err)
	}
	defer func() {
		if err != nil {
			err = blobError(errors.Join(err, os.Remove(f.Name())))
		}
	}()
	_, err = f.Write(value)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return "", err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return "", err
	}
	return name, errors.Join(syncDir(dir), syncDir(b.dir))
}

// keep makes a blob young again, which keeps it from Clean.
func (b blobs) keep(name string) error {
	now := time.Now()
	if err := os.Chtimes(b.path(name), now, now); err != nil {
		return fmt.Errorf("keep a large XCom value: %w", err)
	}
	return nil
}

// take gives a file that somebody has written a name here, as put does for a value, without reading it into memory.
func (b blobs) take(path string) (name string, size int64, err error) {
	if info, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) || err == nil && !info.Mode().IsRegular() {
		return "", 0, fmt.Errorf("take a large XCom value: %w: %s is not a file", ErrInvalid, filepath.Base(path))
	}
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return "", 0, fmt.Errorf("take a large XCom value: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	sum := sha256.New()
	if size, err = io.Copy(sum, f); err != nil {
		return "", 0, fmt.Errorf("take a large XCom value: %w", err)
	}
	name = hex.EncodeToString(sum.Sum(nil))
	to := b.path(name)
	if b.keep(name) == nil {
		return name, size, nil
	}
	dir := filepath.Dir(to)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", 0, blobError(err)
	}
	if err := f.Sync(); err != nil {
		return "", 0, blobError(err)
	}
	switch err := os.Link(path, to); {
	case err == nil, errors.Is(err, fs.ErrExist):
		return name, size, errors.Join(syncDir(dir), syncDir(b.dir))
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT), errors.Is(err, syscall.EROFS):
		return "", 0, blobError(err)
	}
	value, err := os.ReadFile(path) // its file system is another one, or has no links
	if err != nil {
		return "", 0, fmt.Errorf("take a large XCom value: %w", err)
	}
	name, err = b.put(value)
	return name, int64(len(value)), err
}

// get reads a value and checks that it is what was stored.
func (b blobs) get(name string) ([]byte, error) {
	if len(name) != 2*sha256.Size {
		return nil, fmt.Errorf("read blob %q: %w: not a name", name, ErrCorrupt)
	}
	value, err := os.ReadFile(b.path(name))
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("read blob %s: %w: its file is missing from %s", name, ErrCorrupt, b.dir)
		}
		return nil, fmt.Errorf("read blob %s: %w", name, err)
	}
	sum := sha256.Sum256(value)
	if want, err := hex.DecodeString(name); err != nil || !bytes.Equal(sum[:], want) {
		return nil, fmt.Errorf("read blob %s: %w: its file was changed", name, ErrCorrupt)
	}
	return value, nil
}

// each calls f for every file: a blob with its name, a leftover of an interrupted put with an empty one.
func (b blobs) each(f func(name, path string, info fs.FileInfo) error) error {
	err := filepath.WalkDir(b.dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		name := filepath.Base(filepath.Dir(path)) + e.Name()
		if _, err := hex.DecodeString(name); err != nil || len(name) != 2*sha256.Size {
			name = ""
		}
		return f(name, path, info)
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// blobError puts a failure to write in the package's words.
func blobError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("%w: no space left for large XCom values; free some, ostro goes on by itself: %w", ErrUnavailable, err)
	case errors.Is(err, syscall.EROFS), errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: the folder of large XCom values cannot be written: %w", ErrUnavailable, err)
	}
	return fmt.Errorf("write a large XCom value: %w", err)
}

func syncDir(dir string) (err error) {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	return nil
}
