package config

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// A field is one settable value of Config: a leaf of the struct, addressed by its key.
type field struct {
	key   string // "scheduler.parallelism"
	index []int  // for reflect.Value.FieldByIndex
	typ   reflect.Type
	bytes bool // accepts sizes such as 512MiB
}

// fields lists every settable value in the order of declaration.
func fields() []field {
	var out []field
	var walk func(t reflect.Type, prefix string, index []int)
	walk = func(t reflect.Type, prefix string, index []int) {
		for i := range t.NumField() {
			f := t.Field(i)
			name, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
			if name == "-" || name == "" {
				continue
			}
			at := append(slices.Clone(index), i)
			if f.Type.Kind() == reflect.Struct {
				walk(f.Type, prefix+name+".", at)
				continue
			}
			out = append(out, field{key: prefix + name, index: at, typ: f.Type, bytes: f.Tag.Get("unit") == "bytes"})
		}
	}
	walk(reflect.TypeFor[Config](), "", nil)
	return out
}

// Keys lists every key that a file may hold, in the order of the example file.
func Keys() []string {
	var keys []string
	for _, f := range fields() {
		keys = append(keys, f.key)
	}
	return keys
}

// EnvName is the environment variable that overrides a key.
func EnvName(key string) string {
	return "OSTRO_" + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
}

// set decodes a YAML node into the field of c and says what was expected when the node is something else.
func (f field) set(c *Config, node *yaml.Node) error {
	target := reflect.ValueOf(c).Elem().FieldByIndex(f.index)
	if f.bytes && node.Kind == yaml.ScalarNode {
		size, err := parseBytes(node.Value)
		if err != nil {
			return fmt.Errorf("expected %s, found %s", f.expects(), describe(node))
		}
		target.SetInt(size)
		return nil
	}
	if node.Kind == yaml.ScalarNode && node.Tag == "!!null" {
		return fmt.Errorf("has no value; expected %s (leave the line out for the default)", f.expects())
	}
	// A string field takes what was written, but a number or a list there is a slip worth telling.
	if f.typ.Kind() == reflect.String && (node.Kind != yaml.ScalarNode || (node.Tag != "!!str" && node.Style == 0)) {
		return fmt.Errorf("expected %s, found %s", f.expects(), describe(node))
	}
	fresh := reflect.New(f.typ)
	if err := node.Decode(fresh.Interface()); err != nil {
		return fmt.Errorf("expected %s, found %s", f.expects(), describe(node))
	}
	target.Set(fresh.Elem())
	return nil
}

// expects says in words what a field takes.
func (f field) expects() string {
	t := f.typ
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case f.bytes:
		return "a size such as 512MiB or a number of bytes"
	case t == reflect.TypeFor[time.Duration]():
		return "a duration such as 30s, 5m or 1h30m"
	case t.Kind() == reflect.Int:
		return "a whole number"
	case t.Kind() == reflect.Bool:
		return "true or false"
	case t.Kind() == reflect.String:
		return "text"
	case f.key == "images":
		return "images by name, each with dir, python and env"
	default:
		return "names with text values"
	}
}

// describe shows a YAML node in an error.
func describe(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return "an alias"
	}
	switch n.Tag {
	case "!!null":
		return "nothing"
	case "!!int", "!!float":
		return "the number " + n.Value
	case "!!bool":
		return n.Value
	}
	return strconv.Quote(n.Value)
}

// parseBytes reads a number of bytes with an optional unit: KiB, MiB, GiB, TiB, kB, MB, GB, TB or Kubernetes's Ki, Mi, Gi, Ti.
func parseBytes(s string) (int64, error) {
	units := []struct {
		suffix string
		factor float64
	}{
		{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40},
		{"Ki", 1 << 10}, {"Mi", 1 << 20}, {"Gi", 1 << 30}, {"Ti", 1 << 40},
		{"kB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}, {"B", 1},
	}
	s, factor := strings.TrimSpace(s), 1.0
	for _, u := range units {
		if rest, ok := strings.CutSuffix(s, u.suffix); ok {
			s, factor = strings.TrimSpace(rest), u.factor
			break
		}
	}
	n, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return 0, fmt.Errorf("read size %q: %w", s, err)
	}
	if !(n >= 0 && n*factor < 1<<62) {
		return 0, fmt.Errorf("size %q is out of range", s)
	}
	return int64(n * factor), nil
}
