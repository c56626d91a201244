package v2

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"

	"ostro.dev/ostro/internal/core/dag"
)

// checkParams checks the conf of a new run against the DAG's params, as Airflow does before it creates the run: each
// param's value, from the conf or else its default, must fit its schema, and a param without either is missing.
func checkParams(d *dag.DAG, conf json.RawMessage) error {
	var given map[string]json.RawMessage
	if len(conf) > 0 {
		if err := json.Unmarshal(conf, &given); err != nil {
			return fmt.Errorf("read conf: %w", err)
		}
	}
	names := make([]string, 0, len(d.Params))
	for name := range d.Params {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		p := d.Params[name]
		value, ok := given[name]
		if !ok {
			value = p.Value
		}
		if len(value) == 0 {
			return fmt.Errorf("param %s: No value passed and Param has no default value", name)
		}
		if len(p.Schema) == 0 {
			continue
		}
		if err := checkSchema(p.Schema, value); err != nil {
			return fmt.Errorf("param %s: %w", name, err)
		}
	}
	return nil
}

// schema is the part of JSON Schema that params use; keywords it does not know are not checked.
type schema struct {
	Type      json.RawMessage   `json:"type"`
	Enum      []json.RawMessage `json:"enum"`
	Const     json.RawMessage   `json:"const"`
	Minimum   *float64          `json:"minimum"`
	Maximum   *float64          `json:"maximum"`
	MinExcl   *float64          `json:"exclusiveMinimum"`
	MaxExcl   *float64          `json:"exclusiveMaximum"`
	MinLength *int              `json:"minLength"`
	MaxLength *int              `json:"maxLength"`
	Pattern   string            `json:"pattern"`
	Items     json.RawMessage   `json:"items"`
	MinItems  *int              `json:"minItems"`
	MaxItems  *int              `json:"maxItems"`
}

// readSchema reads a schema. What is not one this server can read checks nothing; the task sees the value as it is.
func readSchema(text json.RawMessage) (schema, bool) {
	var s schema
	err := json.Unmarshal(text, &s)
	return s, err == nil
}

func checkSchema(text, value json.RawMessage) error {
	s, ok := readSchema(text)
	if !ok {
		return nil
	}
	var v any
	if err := json.Unmarshal(value, &v); err != nil {
		return fmt.Errorf("not JSON: %w", err)
	}
	if types := typesOf(s.Type); len(types) > 0 && !slices.ContainsFunc(types, func(t string) bool { return isType(t, v) }) {
		return fmt.Errorf("%s is not of type %s", value, oneOf(types))
	}
	same := func(other json.RawMessage) bool { return equalJSON(other, value) }
	if s.Enum != nil && !slices.ContainsFunc(s.Enum, same) {
		return fmt.Errorf("%s is not one of %s", value, bytes.Join(rawSlices(s.Enum), []byte(", ")))
	}
	if s.Const != nil && !same(s.Const) {
		return fmt.Errorf("%s was expected", s.Const)
	}
	switch v := v.(type) {
	case float64:
		return s.number(v)
	case string:
		return s.text(v)
	case []any:
		return s.list(value, len(v))
	}
	return nil
}

func (s schema) number(v float64) error {
	switch {
	case s.Minimum != nil && v < *s.Minimum:
		return fmt.Errorf("%v is less than the minimum of %v", v, *s.Minimum)
	case s.Maximum != nil && v > *s.Maximum:
		return fmt.Errorf("%v is greater than the maximum of %v", v, *s.Maximum)
	case s.MinExcl != nil && v <= *s.MinExcl:
		return fmt.Errorf("%v is less than or equal to the minimum of %v", v, *s.MinExcl)
	case s.MaxExcl != nil && v >= *s.MaxExcl:
		return fmt.Errorf("%v is greater than or equal to the maximum of %v", v, *s.MaxExcl)
	}
	return nil
}

func (s schema) text(v string) error {
	n := len([]rune(v))
	if s.MinLength != nil && n < *s.MinLength {
		return fmt.Errorf("'%s' is too short", v)
	}
	if s.MaxLength != nil && n > *s.MaxLength {
		return fmt.Errorf("'%s' is too long", v)
	}
	if s.Pattern != "" {
		if re, err := regexp.Compile(s.Pattern); err == nil && !re.MatchString(v) {
			return fmt.Errorf("'%s' does not match '%s'", v, s.Pattern)
		}
	}
	return nil
}

func (s schema) list(value json.RawMessage, n int) error {
	if s.MinItems != nil && n < *s.MinItems {
		return fmt.Errorf("%s is too short", value)
	}
	if s.MaxItems != nil && n > *s.MaxItems {
		return fmt.Errorf("%s is too long", value)
	}
	if len(s.Items) == 0 || s.Items[0] != '{' {
		return nil
	}
	var items []json.RawMessage
	if err := json.Unmarshal(value, &items); err != nil {
		return err
	}
	for _, item := range items {
		if err := checkSchema(s.Items, item); err != nil {
			return err
		}
	}
	return nil
}

func typesOf(raw json.RawMessage) []string {
	var one string
	if json.Unmarshal(raw, &one) == nil {
		return []string{one}
	}
	var many []string
	_ = json.Unmarshal(raw, &many) // neither a string nor a list: no type is demanded
	return many
}

func isType(t string, v any) bool {
	switch v := v.(type) {
	case nil:
		return t == "null"
	case bool:
		return t == "boolean"
	case string:
		return t == "string"
	case []any:
		return t == "array"
	case map[string]any:
		return t == "object"
	case float64:
		return t == "number" || t == "integer" && v == math.Trunc(v)
	}
	return false
}

func equalJSON(a, b json.RawMessage) bool {
	var x, y any
	if json.Unmarshal(a, &x) != nil || json.Unmarshal(b, &y) != nil {
		return false
	}
	p, _ := json.Marshal(x) // what was just read can be written
	q, _ := json.Marshal(y)
	return strings.Compare(string(p), string(q)) == 0
}

func rawSlices(in []json.RawMessage) [][]byte {
	out := make([][]byte, len(in))
	for i := range in {
		out[i] = in[i]
	}
	return out
}
