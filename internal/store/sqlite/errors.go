package sqlite

import (
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"
)

// Fault is what an error of the engine means for the caller.
type Fault int

// The kinds of fault.
const (
	FaultNone     Fault = iota // not an error of the engine
	FaultUnique                // a unique key exists already
	FaultRule                  // another constraint of the schema: a bug in the caller
	FaultBusy                  // another process holds the lock
	FaultFull                  // no space
	FaultReadOnly              // the file cannot be written
	FaultCorrupt               // the file is damaged or no database
	FaultIO                    // the disk failed, or memory ran out
)

// Classify says what kind of fault an error is.
func (d *Database) Classify(err error) Fault { return Classify(err) }

// Is says whether an error comes from the engine, whatever the system has said of it beside.
func Is(err error) bool {
	var e *sqlite.Error
	return errors.As(err, &e)
}

// Classify says what kind of fault an error is.
func Classify(err error) Fault {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		if errors.Is(err, driver.ErrBadConn) || errors.Is(err, sql.ErrConnDone) {
			return FaultIO
		}
		return FaultNone
	}
	switch e.Code() {
	case lib.SQLITE_CONSTRAINT_UNIQUE, lib.SQLITE_CONSTRAINT_PRIMARYKEY, lib.SQLITE_CONSTRAINT_ROWID:
		return FaultUnique
	}
	switch e.Code() & 0xff {
	case lib.SQLITE_CONSTRAINT, lib.SQLITE_MISMATCH, lib.SQLITE_TOOBIG:
		return FaultRule
	case lib.SQLITE_BUSY, lib.SQLITE_LOCKED, lib.SQLITE_PROTOCOL:
		return FaultBusy
	case lib.SQLITE_FULL:
		return FaultFull
	case lib.SQLITE_READONLY, lib.SQLITE_PERM:
		return FaultReadOnly
	case lib.SQLITE_CORRUPT, lib.SQLITE_NOTADB:
		return FaultCorrupt
	case lib.SQLITE_IOERR, lib.SQLITE_CANTOPEN, lib.SQLITE_NOMEM:
		return seen(err)
	}
	return FaultNone
}

// seen is what a fault of the disk is more precisely, where withCause has found out.
func seen(err error) Fault {
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return FaultFull
	case errors.Is(err, syscall.EROFS), errors.Is(err, fs.ErrPermission):
		return FaultReadOnly
	}
	return FaultIO
}

// withCause adds to an error of opening a file what the system says of its folder. SQLite needs room there for files of
// its own, and says "unable to open database file" or "disk I/O error" whatever keeps it from making them.
func withCause(path string, err error) error {
	if Classify(err) != FaultIO {
		return err
	}
	if cause := tryWriting(filepath.Dir(path)); cause != nil {
		return fmt.Errorf("%w: %w", err, cause)
	}
	return err
}

// tryWriting makes a file in a folder, of the size that SQLite's own need at least, and removes it.
func tryWriting(dir string) error {
	f, err := os.CreateTemp(dir, "trying-*")
	if err != nil {
		return err
	}
	_, err = f.Write(make([]byte, 64<<10))
	return errors.Join(err, f.Close(), os.Remove(f.Name()))
}

// Hint tells an operator what to do about a fault; empty when there is nothing to say.
func (f Fault) Hint() string {
	switch f {
	case FaultBusy:
		return "another process holds the database's lock; stop it, ostro goes on by itself"
	case FaultFull:
		return "no space left for the database; free some, ostro goes on by itself"
	case FaultReadOnly:
		return "the database file or its folder is read-only; make it writable, ostro goes on by itself"
	case FaultCorrupt:
		return "the database file is damaged; run `ostro db check` and restore a backup"
	case FaultIO:
		return "the disk refused to read or write the database; look at the system's log"
	}
	return ""
}
