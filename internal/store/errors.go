package store

import (
	"errors"
	"fmt"

	"ostro.dev/ostro/internal/store/sqlite"
)

var (
	// ErrNotFound: the named thing does not exist.
	ErrNotFound = errors.New("not found")
	// ErrConflict: it exists already, or a guarded update found another version.
	ErrConflict = errors.New("conflict")
	// ErrInvalid: the caller asked for something that makes no sense (an unknown order_by).
	ErrInvalid = errors.New("invalid")
	// ErrUnavailable: the database cannot be written now (disk full, locked, read-only); nothing was lost, try again.
	ErrUnavailable = errors.New("database unavailable")
	// ErrCorrupt: the database file is damaged; trying again does not help.
	ErrCorrupt = errors.New("database unusable")
	// ErrClosed: the database was closed.
	ErrClosed = errors.New("database closed")
	// ErrNewer: a newer version of Ostro has written the database.
	ErrNewer = sqlite.ErrNewer
)

// explain says in the package's own errors what an error of the engine means, with a hint for operators. Errors that
// are none of the engine's pass through.
func explain(err error) error {
	if err == nil {
		return nil
	}
	switch f := sqlite.Classify(err); f {
	case sqlite.FaultNone, sqlite.FaultRule:
		return err
	case sqlite.FaultUnique:
		return fmt.Errorf("%w: %w", ErrConflict, err)
	case sqlite.FaultCorrupt:
		return fmt.Errorf("%w: %s: %w", ErrCorrupt, f.Hint(), err)
	default:
		return fmt.Errorf("%w: %s: %w", ErrUnavailable, f.Hint(), err)
	}
}

// fatal reports whether an error makes the whole transaction worthless, not only the statement.
func fatal(err error) bool {
	switch sqlite.Classify(err) {
	case sqlite.FaultNone, sqlite.FaultRule, sqlite.FaultUnique:
		return false
	}
	return true
}

// keepsConnection reports whether the connection is as good as before once the transaction is rolled back.
func keepsConnection(err error) bool {
	switch sqlite.Classify(err) {
	case sqlite.FaultBusy, sqlite.FaultFull:
		return true
	}
	return !fatal(err)
}
