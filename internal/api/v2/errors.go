package v2

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"ostro.dev/ostro/internal/api/v2/wire"
	"ostro.dev/ostro/internal/scheduler"
	"ostro.dev/ostro/internal/store"
)

// refusal is an answer that is not a success: a status and what stands under "detail".
type refusal struct {
	status int
	detail any
	cause  error // for the log of a 500, never sent
}

func (e *refusal) Error() string {
	if e.cause != nil {
		return e.cause.Error()
	}
	return fmt.Sprintf("%d: %v", e.status, e.detail)
}

func (e *refusal) Unwrap() error { return e.cause }

func refuse(status int, format string, args ...any) error {
	return &refusal{status: status, detail: fmt.Sprintf(format, args...)}
}

func notFound(format string, args ...any) error {
	return refuse(http.StatusNotFound, format, args...)
}

func badRequest(format string, args ...any) error {
	return refuse(http.StatusBadRequest, format, args...)
}

// duplicate is the 409 whose detail is an object, as Airflow reports a violated unique constraint.
func duplicate(format string, args ...any) error {
	message := fmt.Sprintf(format, args...)
	return &refusal{status: http.StatusConflict, detail: wire.Duplicate{
		Reason: "Unique constraint violation", Statement: "hidden", OrigError: "hidden", Message: message}}
}

// faults is a 422 answer with a list of what is wrong where.
func faults(list ...wire.Fault) error {
	return &refusal{status: http.StatusUnprocessableEntity, detail: list}
}

// domain maps what store and scheduler refuse; what names the thing in words, for the 404 text. Other errors pass.
func domain(err error, what string) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, store.ErrNotFound), errors.Is(err, scheduler.ErrNotFound):
		return notFound("%s was not found", what)
	case errors.Is(err, scheduler.ErrInvalid):
		return badRequest("%s", plain(err, scheduler.ErrInvalid))
	case errors.Is(err, scheduler.ErrNotAllowed):
		return refuse(http.StatusForbidden, "%s", plain(err, scheduler.ErrNotAllowed))
	case errors.Is(err, scheduler.ErrConflict):
		return refuse(http.StatusConflict, "%s", plain(err, scheduler.ErrConflict))
	case errors.Is(err, store.ErrConflict):
		return refuse(http.StatusConflict, "%s", plain(err, store.ErrConflict))
	}
	return err
}

// plain is err's text without the sentinel's at either end.
func plain(err, sentinel error) string {
	s := strings.TrimSuffix(err.Error(), ": "+sentinel.Error())
	s = strings.TrimPrefix(s, sentinel.Error()+": ")
	return s
}

// answerError writes err in Airflow's form and returns what is worth a line in the server's log, or nil.
func answerError(w http.ResponseWriter, err error) error {
	var r *refusal
	if errors.As(err, &r) {
		answer(w, r.status, map[string]any{"detail": r.detail})
		return r.cause
	}
	switch {
	case errors.Is(err, store.ErrNotFound), errors.Is(err, scheduler.ErrNotFound):
		answer(w, http.StatusNotFound, map[string]any{"detail": err.Error()})
		return nil
	case errors.Is(err, store.ErrInvalid), errors.Is(err, scheduler.ErrInvalid):
		answer(w, http.StatusBadRequest, map[string]any{"detail": err.Error()})
		return nil
	case errors.Is(err, store.ErrFenced), errors.Is(err, scheduler.ErrStopped):
		w.Header().Set("Retry-After", "1")
		answer(w, http.StatusServiceUnavailable, map[string]any{"detail": "This server is stopping and does nothing any more; ask again"})
		return nil
	case errors.Is(err, store.ErrUnavailable):
		w.Header().Set("Retry-After", "1")
		answer(w, http.StatusServiceUnavailable, unwritable(err))
		return err
	}
	answer(w, http.StatusInternalServerError, map[string]any{"detail": "Internal Server Error; request id " + w.Header().Get("X-Request-Id")})
	return err
}

// unwritable tells that the database is what refuses, for people and for programs.
func unwritable(err error) wire.Unavailable {
	out := wire.Unavailable{Detail: "The database cannot be written now; nothing was lost, try again"}
	if hint := store.Hint(err); hint != "" {
		out.Detail = "The database cannot be written now: " + hint + ". Nothing was lost, try again"
	}
	out.Ostro.Reason = wire.ReasonDatabase
	return out
}

// encode is JSON as Airflow writes it: no HTML escapes, no newline at the end.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimRight(b.Bytes(), "\n"), nil
}

// answer writes a JSON body.
func answer(w http.ResponseWriter, status int, v any) {
	body, err := encode(v)
	if err != nil {
		status, body = http.StatusInternalServerError, []byte(`{"detail":"Internal Server Error: the answer could not be written as JSON"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client may be gone, which its side of the connection shows
}
