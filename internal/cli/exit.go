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
	exitUsage       = 2   // wrong arguments or configuration
	exitNotFound    = 3   // what was named does not exist
	exitUnreachable = 4   // no server answers
	exitConflict    = 5   // it exists already, or its state does not allow this
	exitRefused     = 6   // the token is missing or wrong
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

// homeProblem gives an error of a start its code: what the machine refuses is no fault of the program.
func homeProblem(err error) error {
	hint := "nothing was lost; put that right and start again"
	switch {
	case errors.Is(err, store.ErrCorrupt):
		hint = "look at it with: ostro db check; restore a copy made by: ostro db backup"
	case errors.Is(err, store.ErrUnavailable):
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS), errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT),
		errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.EIO):
	default:
		return err
	}
	return &problem{code: exitHome, err: err, hint: hint}
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
		return exitUnreachable, "the server cannot write now (disk full or locked?); nothing was lost, try again"
	case s >= 500:
		return exitInternal, "the server's log says more"
	case s >= 400:
		return exitUsage, ""
	}
	return exitInternal, ""
}
