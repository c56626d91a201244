package v2

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"ostro.dev/ostro/internal/api/v2/wire"
)

// fields reads the members of one JSON object in a body. Each reader notes what is wrong in the request's faults, in
// pydantic's words, and returns a zero value; done adds the members nobody asked for.
type fields struct {
	r       *request
	loc     []any
	raw     json.RawMessage
	members map[string]json.RawMessage
	used    map[string]bool
}

func (f *fields) at(name string) []any { return append(slices.Clone(f.loc), name) }

// given tells whether a member is present, null included.
func (f *fields) given(name string) bool { _, ok := f.members[name]; return ok }

// take returns a member's JSON; nil when absent or null.
func (f *fields) take(name string) json.RawMessage {
	f.used[name] = true
	v, ok := f.members[name]
	if !ok || string(v) == "null" {
		return nil
	}
	return v
}

// must notes a fault when a member is absent; null counts as present.
func (f *fields) must(name string) bool {
	f.used[name] = true
	if f.given(name) {
		return true
	}
	f.r.fault(wire.Fault{Type: "missing", Loc: f.at(name), Msg: "Field required", Input: f.raw})
	return false
}

func (f *fields) wrong(name, kind, msg string, input json.RawMessage) {
	f.r.fault(wire.Fault{Type: kind, Loc: f.at(name), Msg: msg, Input: input})
}

// text is an optional string.
func (f *fields) text(name string, maximum int) *string {
	v := f.take(name)
	if v == nil {
		return nil
	}
	var s string
	if err := json.Unmarshal(v, &s); err != nil {
		f.wrong(name, "string_type", "Input should be a valid string", v)
		return nil
	}
	if maximum > 0 && len([]rune(s)) > maximum {
		f.r.fault(wire.Fault{Type: "string_too_long", Loc: f.at(name), Msg: fmt.Sprintf("String should have at most %d characters", maximum),
			Input: v, Ctx: map[string]any{"max_length": maximum}})
		return nil
	}
	return &s
}

// mustText is a required string, null refused.
func (f *fields) mustText(name string, maximum int) string {
	if !f.must(name) {
		return ""
	}
	if string(f.members[name]) == "null" {
		f.wrong(name, "string_type", "Input should be a valid string", f.members[name])
		return ""
	}
	if s := f.text(name, maximum); s != nil {
		return *s
	}
	return ""
}

func (f *fields) boolean(name string, otherwise bool) bool {
	v := f.take(name)
	if v == nil {
		return otherwise
	}
	var b bool
	if err := json.Unmarshal(v, &b); err != nil {
		f.wrong(name, "bool_type", "Input should be a valid boolean", v)
		return otherwise
	}
	return b
}

func (f *fields) integer(name string, least int) *int {
	v := f.take(name)
	if v == nil {
		return nil
	}
	var n int
	if err := json.Unmarshal(v, &n); err != nil {
		f.wrong(name, "int_type", "Input should be a valid integer", v)
		return nil
	}
	if n < least {
		f.r.fault(wire.Fault{Type: "greater_than_equal", Loc: f.at(name), Msg: fmt.Sprintf("Input should be greater than or equal to %d", least),
			Input: v, Ctx: map[string]any{"ge": least}})
	}
	return &n
}

// moment is an optional date with an offset.
func (f *fields) moment(name string) *time.Time {
	v := f.take(name)
	if v == nil {
		return nil
	}
	var s string
	if err := json.Unmarshal(v, &s); err != nil {
		f.wrong(name, "datetime_type", "Input should be a valid datetime", v)
		return nil
	}
	if t, err := time.Parse(time.RFC3339Nano, strings.Replace(s, " ", "T", 1)); err == nil {
		return &t
	}
	if _, ok := parseTime(strings.Replace(s, " ", "T", 1)); ok {
		f.wrong(name, "timezone_aware", "Input should have timezone info", v)
		return nil
	}
	f.wrong(name, "datetime_from_date_parsing", "Input should be a valid datetime or date, invalid character in year", v)
	return nil
}

// dict is an optional JSON object.
func (f *fields) dict(name string) json.RawMessage {
	v := f.take(name)
	if v == nil {
		return nil
	}
	if v[0] != '{' {
		f.wrong(name, "dict_type", "Input should be a valid dictionary", v)
		return nil
	}
	return v
}

// list is an optional JSON array.
func (f *fields) list(name string) []json.RawMessage {
	v := f.take(name)
	if v == nil {
		return nil
	}
	var out []json.RawMessage
	if err := json.Unmarshal(v, &out); err != nil {
		f.wrong(name, "list_type", "Input should be a valid list", v)
		return nil
	}
	return out
}

// texts is an optional list of strings; null elements stand for the empty string.
func (f *fields) texts(name string) []string {
	var out []string
	for i, v := range f.list(name) {
		var s string
		if err := json.Unmarshal(v, &s); err != nil {
			f.r.fault(wire.Fault{Type: "string_type", Loc: append(f.at(name), i), Msg: "Input should be a valid string", Input: v})
			continue
		}
		out = append(out, s)
	}
	return out
}

// enum is an optional string that is one of allowed.
func enum[T ~string](f *fields, name string, allowed []T) T {
	v := f.take(name)
	if v == nil {
		return ""
	}
	var s string
	if err := json.Unmarshal(v, &s); err != nil || !slices.Contains(allowed, T(s)) {
		expected := oneOf(allowed)
		f.r.fault(wire.Fault{Type: "enum", Loc: f.at(name), Msg: "Input should be " + expected, Input: v, Ctx: map[string]any{"expected": expected}})
		return ""
	}
	return T(s)
}

// oneOf writes 'a', 'b' or 'c'.
func oneOf[T ~string](values []T) string {
	var b strings.Builder
	for i, v := range values {
		switch {
		case i == 0:
		case i == len(values)-1:
			b.WriteString(" or ")
		default:
			b.WriteString(", ")
		}
		b.WriteString("'" + string(v) + "'")
	}
	return b.String()
}

// done notes members nobody asked for and returns the refusal for everything collected.
func (f *fields) done() error {
	var extra []string
	for name := range f.members {
		if !f.used[name] {
			extra = append(extra, name)
		}
	}
	slices.Sort(extra)
	for _, name := range extra {
		f.wrong(name, "extra_forbidden", "Extra inputs are not permitted", f.members[name])
	}
	return f.r.bad()
}

// mask is PATCH's update_mask: nil when absent.
type mask []string

func (r *request) mask() mask {
	var out mask
	for _, v := range r.query["update_mask"] {
		out = append(out, strings.Split(v, ",")...)
	}
	return out
}

// covers tells whether a field is to be changed.
func (m mask) covers(name string) bool { return m == nil || slices.Contains(m, name) }
