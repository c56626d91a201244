package v2

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"ostro.dev/ostro/internal/api/v2/wire"
)

// Page limits, as in Airflow's [api] fallback_page_limit and maximum_page_limit.
const (
	defaultLimit = 50
	maximumLimit = 100
)

// request is one call with its path parameters; it collects what is wrong with query and body, so that a client learns all
// of it at once.
type request struct {
	*http.Request
	w      http.ResponseWriter
	params map[string]string
	query  url.Values
	faults []wire.Fault
	// enum is the first bad enumeration value in the query, which Airflow reports as a string.
	enum string
}

func (r *request) ctx() context.Context { return r.Context() }

func (r *request) actor() string { return actorOf(r.Context()) }

// path is a path parameter.
func (r *request) path(name string) string { return r.params[name] }

// pathInt is a path parameter that must be an integer.
func (r *request) pathInt(name string) int {
	return r.integer("path", name, r.params[name])
}

func (r *request) fault(f wire.Fault) { r.faults = append(r.faults, f) }

// bad returns the refusal for what was collected, nil when all is well. Handlers call it before they act.
func (r *request) bad() error {
	if len(r.faults) > 0 {
		return faults(r.faults...)
	}
	if r.enum != "" {
		return &refusal{status: http.StatusUnprocessableEntity, detail: r.enum}
	}
	return nil
}

func quoted(s string) json.RawMessage {
	b, _ := json.Marshal(s) // a string always has a JSON form
	return b
}

func (r *request) integer(where, name, text string) int {
	n, err := strconv.Atoi(text)
	if err != nil {
		r.fault(wire.Fault{Type: "int_parsing", Loc: []any{where, name},
			Msg: "Input should be a valid integer, unable to parse string as an integer", Input: quoted(text)})
	}
	return n
}

// has tells whether the query has a parameter.
func (r *request) has(name string) bool { return r.query.Has(name) }

func (r *request) text(name string) string { return r.query.Get(name) }

// pageOf reads limit and offset.
func (r *request) page() (limit, offset int) {
	limit = min(r.intFrom("limit", defaultLimit, 0), maximumLimit)
	return limit, r.intFrom("offset", 0, 0)
}

// intFrom is a query parameter that must be an integer not below least.
func (r *request) intFrom(name string, otherwise, least int) int {
	if !r.has(name) {
		return otherwise
	}
	before := len(r.faults)
	n := r.integer("query", name, r.text(name))
	if len(r.faults) == before && n < least {
		r.fault(wire.Fault{Type: "greater_than_equal", Loc: []any{"query", name},
			Msg: fmt.Sprintf("Input should be greater than or equal to %d", least), Input: quoted(r.text(name)), Ctx: map[string]any{"ge": least}})
	}
	return n
}

// mapIndex reads ?map_index=, -1 when absent.
func (r *request) mapIndex() int { return r.intFrom("map_index", -1, -1) }

// boolean reads a query parameter the way pydantic does.
func (r *request) boolean(name string, otherwise bool) bool {
	if !r.has(name) {
		return otherwise
	}
	switch strings.ToLower(r.text(name)) {
	case "true", "1", "yes", "y", "on", "t":
		return true
	case "false", "0", "no", "n", "off", "f":
		return false
	}
	r.fault(wire.Fault{Type: "bool_parsing", Loc: []any{"query", name},
		Msg: "Input should be a valid boolean, unable to interpret input", Input: quoted(r.text(name))})
	return otherwise
}

// optBoolean is nil when the parameter is absent.
func (r *request) optBoolean(name string) *bool {
	if !r.has(name) {
		return nil
	}
	b := r.boolean(name, false)
	return &b
}

// moment reads a date, nil when absent. A date without an offset is UTC, as in Airflow's queries.
func (r *request) moment(name string) *time.Time {
	if !r.has(name) {
		return nil
	}
	t, ok := parseTime(strings.ReplaceAll(r.text(name), " ", "+")) // a "+" that was not escaped
	if !ok {
		r.enum = fmt.Sprintf("Invalid datetime: %q. Please check the date parameter have this value.", r.text(name))
		return nil
	}
	return &t
}

func parseTime(s string) (time.Time, bool) {
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02T15:04Z07:00", "2006-01-02T15:04", "2006-01-02"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}

// enums reads a repeated query parameter whose values are one of allowed; "none" stands for the empty state.
func enums[T ~string](r *request, name string, allowed []T) []T {
	var out []T
	for _, v := range r.query[name] {
		if v == "" {
			continue
		}
		if !slices.Contains(allowed, T(v)) {
			if r.enum == "" {
				r.enum = fmt.Sprintf("Invalid value for %s. Valid values are %s", name, join(allowed))
			}
			continue
		}
		out = append(out, T(v))
	}
	return out
}

func join[T ~string](values []T) string {
	parts := make([]string, len(values))
	for i, v := range values {
		parts[i] = string(v)
	}
	return strings.Join(parts, ", ")
}

// order checks order_by against what can be sorted by, as Airflow does: an unknown attribute is a 400.
func (r *request) order(resource string, allowed map[string]string) ([]string, error) {
	var given []string
	for _, v := range r.query["order_by"] {
		given = append(given, strings.Split(v, ",")...)
	}
	return orderBy(resource, given, allowed)
}

// orderBy maps each attribute to the store's name for it and keeps the sign.
func orderBy(resource string, given []string, allowed map[string]string) ([]string, error) {
	var out []string
	for _, v := range given {
		name, desc := strings.CutPrefix(strings.TrimSpace(v), "-")
		column, ok := allowed[name]
		if !ok {
			return nil, badRequest("Ordering with '%s' is disallowed or the attribute does not exist on the %s", name, resource)
		}
		if desc {
			column = "-" + column
		}
		out = append(out, column)
	}
	return out, nil
}

// readBody reads a JSON object from the body and collects its members' faults through the returned fields.
func (r *request) readBody() (*fields, error) {
	raw, err := io.ReadAll(r.Body)
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return nil, refuse(http.StatusRequestEntityTooLarge, "The body is larger than %d bytes", tooLarge.Limit)
	}
	if err != nil {
		return nil, fmt.Errorf("read the body: %w", err)
	}
	if len(bytes.TrimSpace(raw)) == 0 {
		return nil, faults(wire.Fault{Type: "missing", Loc: []any{"body"}, Msg: "Field required", Input: json.RawMessage("null")})
	}
	var probe any
	if err := json.Unmarshal(raw, &probe); err != nil {
		at := 0
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			at = int(syntax.Offset)
		}
		return nil, faults(wire.Fault{Type: "json_invalid", Loc: []any{"body", at}, Msg: "JSON decode error",
			Input: json.RawMessage("{}"), Ctx: map[string]any{"error": err.Error()}})
	}
	return r.object([]any{"body"}, raw)
}

func (r *request) object(loc []any, raw json.RawMessage) (*fields, error) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(raw, &members); err != nil || members == nil {
		return nil, faults(wire.Fault{Type: "model_attributes_type", Loc: loc,
			Msg: "Input should be a valid dictionary or object to extract fields from", Input: raw})
	}
	return &fields{r: r, loc: loc, raw: raw, members: members, used: map[string]bool{}}, nil
}
