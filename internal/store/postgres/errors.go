package postgres

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// Fault is what an error of the engine means for the caller.
type Fault int

// The kinds of fault.
const (
	FaultNone     Fault = iota // not an error of the engine
	FaultUnique                // a unique key exists already
	FaultRule                  // another constraint, or a statement the server refuses: a bug in the caller
	FaultBusy                  // another process holds the lock
	FaultAgain                 // the transaction met another one
	FaultFull                  // no space
	FaultReadOnly              // the server only reads now
	FaultCorrupt               // data is damaged
	FaultGone                  // the server cannot be reached, or the connection broke
	FaultLogin                 // the user or the password is wrong
	FaultMissing               // there is no such database
	FaultRights                // the user may not do it
	FaultCrowded               // the server takes no more connections
	FaultVersion               // the server is too old
	FaultAddress               // the address cannot be read
)

// Classify says what kind of fault an error is.
func Classify(err error) Fault {
	switch {
	case err == nil:
		return FaultNone
	case errors.Is(err, ErrURL):
		return FaultAddress
	case errors.Is(err, ErrVersion):
		return FaultVersion
	case errors.Is(err, errStandby):
		return FaultReadOnly
	case errors.Is(err, errGone), errors.Is(err, ErrUnsettled):
		return FaultGone
	}
	if e, ok := isPgError(err); ok {
		return classifyCode(e.Code)
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return FaultNone // the caller's own doing
	}
	var connect *pgconn.ConnectError
	var network net.Error
	if errors.As(err, &connect) || errors.As(err, &network) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) ||
		errors.Is(err, net.ErrClosed) || strings.HasSuffix(err.Error(), "conn closed") {
		return FaultGone
	}
	return FaultNone
}

func classifyCode(code string) Fault {
	switch code {
	case "23505":
		return FaultUnique
	case "55P03":
		return FaultBusy
	case "40001", "40P01":
		return FaultAgain
	case "53100", "53200":
		return FaultFull
	case "53300":
		return FaultCrowded
	case "25006":
		return FaultReadOnly
	case "42501":
		return FaultRights
	case "3D000":
		return FaultMissing
	case "25P03", "57P01", "57P02", "57P03", "57P04", "57P05", "57014", "58000", "58030", "53000":
		return FaultGone
	}
	switch code[:2] {
	case "28":
		return FaultLogin
	case "08":
		return FaultGone
	case "XX":
		return FaultCorrupt
	}
	return FaultRule
}

// Hint tells an operator what to do about a fault; empty when there is nothing to say.
func (f Fault) Hint() string {
	switch f {
	case FaultBusy:
		return "another process holds the database's write lock; stop it, ostro goes on by itself"
	case FaultAgain:
		return "another transaction was in the way"
	case FaultFull:
		return "PostgreSQL has no space or memory left; make some, ostro goes on by itself"
	case FaultReadOnly:
		return "PostgreSQL only reads: it is a standby, or default_transaction_read_only is set"
	case FaultCorrupt:
		return "PostgreSQL reports damaged data; look at its log and restore a backup"
	case FaultGone:
		return "PostgreSQL does not answer: see whether it runs and can be reached; ostro goes on by itself when it does"
	case FaultLogin:
		return "PostgreSQL refuses the login: see user and password in the address, and pg_hba.conf on the server"
	case FaultMissing:
		return "create it with: createdb NAME"
	case FaultRights:
		return "give the user the right: GRANT CREATE ON DATABASE name TO user, or make the user the owner"
	case FaultCrowded:
		return "PostgreSQL takes no more connections; raise max_connections (ostro uses about ten)"
	case FaultVersion:
		return "upgrade the server, or use another"
	}
	return ""
}

// errGone marks a connection that is of no use any more.
var errGone = errors.New("the connection to PostgreSQL broke")
