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

	"ostro.dev/ostro/internal/core/jsoncheck"
	"ostro.dev/ostro/protocol"
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
	if b.keep(name) == nil { // it is there
		return name, nil
	}
	return b.add(func(w io.Writer) (string, error) {
		_, err := w.Write(value)
		return name, err
	})
}

// add stores what fill writes, under the name that it returns.
func (b blobs) add(fill func(io.Writer) (name string, err error)) (name string, err error) {
	if err := os.MkdirAll(b.dir, 0o700); err != nil {
		return "", blobError(err)
	}
	f, err := os.CreateTemp(b.dir, tempPrefix+"*")
	if err != nil {
		return "", blobError(err)
	}
	if name, err = fill(f); err == nil && b.keep(name) != nil {
		err = b.name(f, name)
	} else {
		err = errors.Join(err, os.Remove(f.Name())) // it is not wanted, or there already
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return "", blobError(err)
	}
	return name, nil
}

// name gives a file that was written its name, durably.
func (b blobs) name(f *os.File, name string) error {
	path := b.path(name)
	dir := filepath.Dir(path)
	err := f.Sync()
	if err == nil {
		err = os.MkdirAll(dir, 0o700)
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return errors.Join(syncDir(dir), syncDir(b.dir))
}

// keep makes a blob young again, which keeps it from Clean.
func (b blobs) keep(name string) error {
	now := time.Now()
	if err := os.Chtimes(b.path(name), now, now); err != nil {
		return fmt.Errorf("keep a large XCom value: %w", err)
	}
	return nil
}

// MaxXCom is how many bytes an XCom may have as JSON. A value that is in a message must fit into a frame, with the rest of the
// message; one in a file has the same limit, so that whether there is a folder for it makes no difference to an author.
const MaxXCom = protocol.MaxFrame - 1<<20

// take stores what is in a file that somebody else has written, as put does for a value, without reading it into memory. It is
// a copy, and not a link: whoever wrote the file may still have it open, and decides on its mode. What is checked, hashed and
// kept is what was read once, whatever becomes of the file meanwhile.
func (b blobs) take(path string) (name string, size int64, err error) {
	f, size, err := openGiven(path)
	if err != nil {
		return "", 0, fmt.Errorf("take a large XCom value: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := b.room(size); err != nil {
		return "", 0, blobError(err)
	}
	name, err = b.add(func(w io.Writer) (name string, err error) {
		name, size, err = copyJSON(w, f, filepath.Base(path))
		return name, err
	})
	return name, size, err
}

// openGiven opens a file for reading when it is one, and not too large. It waits for nobody, as opening a pipe would.
func openGiven(path string) (*os.File, int64, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ELOOP) && !errors.Is(err, syscall.ENXIO) {
		return nil, 0, err
	}
	if err != nil {
		return nil, 0, fmt.Errorf("%w: %s is not a file", ErrInvalid, filepath.Base(path))
	}
	info, err := f.Stat()
	switch {
	case err != nil:
	case !info.Mode().IsRegular():
		err = fmt.Errorf("%w: %s is not a file", ErrInvalid, filepath.Base(path))
	case info.Size() > MaxXCom:
		err = tooLarge(info.Size())
	default:
		return f, info.Size(), nil
	}
	return nil, 0, errors.Join(err, f.Close())
}

func tooLarge(size int64) error {
	const mib = 1 << 20
	return fmt.Errorf("%w: the value has %.1f MiB as JSON, and an XCom can have at most %d MiB; write it to a file, for instance under s3://, and pass on its path",
		ErrInvalid, float64(size)/mib, MaxXCom/mib)
}

// copyJSON copies a file, provided that it is JSON, and returns the name and size of what it has copied.
func copyJSON(w io.Writer, f io.Reader, called string) (name string, size int64, err error) {
	sum, check := sha256.New(), &jsoncheck.Checker{}
	bad := func(err error) error {
		return fmt.Errorf("take a large XCom value: %w: %s is not JSON: %w", ErrInvalid, called, err)
	}
	buf := make([]byte, 256<<10)
	for {
		n, err := f.Read(buf)
		sum.Write(buf[:n])
		if _, err := check.Write(buf[:n]); err != nil {
			return "", 0, bad(err)
		}
		if _, err := w.Write(buf[:n]); err != nil {
			return "", 0, err
		}
		if size += int64(n); size > MaxXCom { // it has grown
			return "", 0, fmt.Errorf("take a large XCom value: %w", tooLarge(size))
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return "", 0, fmt.Errorf("read what is given: %w", err)
		}
	}
	if err := check.Close(); err != nil {
		return "", 0, bad(err)
	}
	return hex.EncodeToString(sum.Sum(nil)), size, nil
}

// room refuses what the disk has no room for before any of it is read. Where the system cannot say, writing will.
func (b blobs) room(size int64) error {
	var disk syscall.Statfs_t
	if syscall.Statfs(b.dir, &disk) == nil && disk.Blocks > 0 && disk.Bavail < uint64(size)/uint64(disk.Bsize) {
		return syscall.ENOSPC
	}
	return nil
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
	case err == nil, errors.Is(err, ErrInvalid):
		return err
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
