package store

import (
	"errors"
	"fmt"

	"ostro.dev/ostro/internal/store/postgres"
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
	ErrNewer = errors.New("the database was written by a newer version of ostro")
	// ErrOlder: the database would have to be migrated, and was to be opened as it is.
	ErrOlder = errors.New("the database has the schema of an older version of ostro")
	// ErrFenced: another server leads now; this one must stop. Trying again does not help.
	ErrFenced = postgres.ErrFenced
	// ErrBackup: the copy is made by the database's own tools.
	ErrBackup = errors.New("a PostgreSQL database is backed up with its own tools")
)

// meaning is what an error of any engine means for this package.
type meaning struct {
	engine bool  // it comes from the engine at all
	kind   error // ErrConflict, ErrUnavailable or ErrCorrupt; nil when the error is none of the engine's, or breaks a rule
	hint   string
	fatal  bool // the whole transaction is worthless, not only the statement
	keeps  bool // the connection is as good as before once the transaction is rolled back
}

func meaningOf(err error) meaning {
	switch {
	case err == nil:
		return meaning{keeps: true}
	case errors.Is(err, sqlite.ErrNewer), errors.Is(err, postgres.ErrNewer):
		return meaning{engine: true, kind: ErrNewer, keeps: true}
	case errors.Is(err, sqlite.ErrOlder), errors.Is(err, postgres.ErrOlder):
		return meaning{engine: true, kind: ErrOlder, keeps: true}
	case errors.Is(err, postgres.ErrFenced):
		return meaning{engine: true, kind: ErrFenced, fatal: true, keeps: true}
	}
	if sqlite.Is(err) {
		return meaningOfSQLite(err)
	}
	switch f := postgres.Classify(err); f {
	case postgres.FaultNone:
		return meaningOfSQLite(err) // it may be the driver's
	case postgres.FaultRule:
		return meaning{engine: true, keeps: true}
	case postgres.FaultUnique:
		return meaning{engine: true, kind: ErrConflict, keeps: true}
	case postgres.FaultCorrupt:
		return meaning{engine: true, kind: ErrCorrupt, hint: f.Hint(), fatal: true}
	default:
		return meaning{engine: true, kind: ErrUnavailable, hint: f.Hint(), fatal: true, keeps: f == postgres.FaultBusy || f == postgres.FaultAgain}
	}
}

func meaningOfSQLite(err error) meaning {
	switch f := sqlite.Classify(err); f {
	case sqlite.FaultNone:
		return meaning{keeps: true}
	case sqlite.FaultRule:
		return meaning{engine: true, keeps: true}
	case sqlite.FaultUnique:
		return meaning{engine: true, kind: ErrConflict, keeps: true}
	case sqlite.FaultCorrupt:
		return meaning{engine: true, kind: ErrCorrupt, hint: f.Hint(), fatal: true}
	default:
		return meaning{engine: true, kind: ErrUnavailable, hint: f.Hint(), fatal: true, keeps: f == sqlite.FaultBusy || f == sqlite.FaultFull}
	}
}

// explain says in the package's own errors what an error of the engine means, with a hint for operators. Errors that
// are none of the engine's pass through.
func explain(err error) error {
	switch m := meaningOf(err); {
	case m.kind == nil || errors.Is(err, m.kind):
		return err
	case m.hint == "":
		return fmt.Errorf("%w: %w", m.kind, err)
	default:
		return fmt.Errorf("%w: %s: %w", m.kind, m.hint, err)
	}
}

// Hint is what an operator should do about an error of the engine, without names of files; empty when there is nothing to say.
func Hint(err error) string { return meaningOf(err).hint }

// keepsConnection reports whether the connection is as good as before once the transaction is rolled back.
func keepsConnection(err error) bool { return meaningOf(err).keeps }
