package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"syscall"

	"ostro.dev/ostro/internal/client"
	"ostro.dev/ostro/internal/store"
)

// Exit codes, documented in docs/exit-codes.md.
const (
	exitOK          = 0
	exitFailed      = 1   // a DAG run or task ended badly, or a check found problems
	exitUsage       = 2   // wrong arguments or configuration, whoever sees it
	exitNotFound    = 3   // what was named does not exist
	exitUnreachable = 4   // no server answers
	exitConflict    = 5   // it exists already, or what it is or its state does not allow this
	exitRefused     = 6   // the token is missing or wrong, or somebody else is asked
	exitHome        = 7   // the home cannot be used: disk full, read-only, its database locked or damaged
	exitInternal    = 70  // a fault of the program
	exitInterrupted = 130 // Ctrl-C
)

// problem is an error with its exit code and, where there is one, the next step.
type problem struct {
	code int
	err  error
	hint string
}

func (p *problem) Error() string { return p.err.Error() }
func (p *problem) Unwrap() error { return p.err }

func usage(format string, args ...any) error {
	return &problem{code: exitUsage, err: fmt.Errorf(format, args...)}
}

// homeFault tells whether an error is the home's: what the machine refuses is no fault of the program. Whatever command meets
// it, whether in its own process or in the server's, ends with exitHome.
func homeFault(err error) (hint string, ok bool) {
	switch {
	case client.DatabaseRefuses(err):
		return "disk full, or locked by another process? ostro.problem in /api/v2/monitor/health says more; the server goes on by itself", true
	case errors.Is(err, store.ErrCorrupt):
		return "look at it with: ostro db check; restore a copy made by: ostro db backup", true
	case errors.Is(err, store.ErrUnavailable), diskFault(err), errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.ENOTDIR):
		return "nothing was lost; put that right and try again", true
	}
	return "", false
}

// diskFault tells whether the disk refuses, whoever asks and whatever is written.
func diskFault(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EROFS) || errors.Is(err, syscall.EIO)
}

// failed is how a command says that what it watched ended badly; it has been shown already.
var errFailed = &problem{code: exitFailed}

// codeOf is the exit code of an error and its next step.
func codeOf(err error) (code int, hint string) {
	var p *problem
	if errors.As(err, &p) {
		return p.code, p.hint
	}
	var gone *client.Unreachable
	if errors.As(err, &gone) {
		return exitUnreachable, "start one with: ostro standalone"
	}
	if errors.Is(err, context.Canceled) {
		return exitInterrupted, ""
	}
	if hint, ok := homeFault(err); ok {
		return exitHome, hint
	}
	if errors.Is(err, store.ErrNewer) {
		return exitConflict, "use that version, or a copy of the database from before it"
	}
	switch s := client.StatusOf(err); {
	case s == http.StatusNotFound:
		return exitNotFound, ""
	case s == http.StatusConflict:
		return exitConflict, ""
	case s == http.StatusUnauthorized:
		return exitRefused, "the token is read from HOME/token; does --home name the server's home?"
	case s == http.StatusForbidden:
		return exitRefused, "the token in HOME/token is not this server's; does --home name the server's home?"
	case s == http.StatusNotImplemented:
		return exitUsage, ""
	case s == http.StatusServiceUnavailable:
		return exitUnreachable, "it is being replaced or stopped; ask its successor, or start one with: ostro standalone"
	case s >= 500:
		return exitInternal, "the server's log says more"
	case s == http.StatusBadRequest && client.MethodOf(err) == http.MethodDelete:
		return exitConflict, "" // there are no values that could be wrong: it is what was named that does not allow it
	case s >= 400:
		return exitUsage, ""
	}
	return exitInternal, ""
}
