package config

import (
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Masked is an address without its password.
func Masked(address string) string {
	return parameters.ReplaceAllString(login.ReplaceAllString(address, "://$1:***@"), "$1=***")
}

var (
	login      = regexp.MustCompile(`://([^:@/]*):.*@`)
	parameters = regexp.MustCompile(`\b((?:ssl)?password)=[^&]*`)
)

// Dump writes the configuration as YAML that Load reads again, with the origin of each value as a comment. Passwords are
// masked.
func (c Config) Dump() ([]byte, error) {
	c.Database = Masked(c.Database)
	root := &yaml.Node{Kind: yaml.MappingNode, HeadComment: "home: " + c.Home + "\nfile: " + c.File}
	sections := map[string]*yaml.Node{"": root}
	for _, f := range fields() {
		section, name := "", f.key
		if i := strings.LastIndexByte(f.key, '.'); i >= 0 {
			section, name = f.key[:i], f.key[i+1:]
		}
		into := sections[section]
		if into == nil {
			into = &yaml.Node{Kind: yaml.MappingNode}
			sections[section] = into
			root.Content = append(root.Content, scalar(section), into)
		}
		value := reflect.ValueOf(c).FieldByIndex(f.index)
		if value.Kind() == reflect.Pointer && value.IsNil() {
			continue // not set, and what is used instead depends on the DAG
		}
		node, err := dumpValue(value)
		if err != nil {
			return nil, fmt.Errorf("write configuration key %s: %w", f.key, err)
		}
		key := scalar(name)
		if comment := c.comment(f.key); node.Kind == yaml.ScalarNode || len(node.Content) == 0 {
			node.LineComment = comment
		} else {
			key.HeadComment = comment
		}
		into.Content = append(into.Content, key, node)
	}
	return yaml.Marshal(root)
}

func dumpValue(value reflect.Value) (*yaml.Node, error) {
	node := &yaml.Node{}
	if value.Kind() == reflect.Map && value.Len() == 0 {
		return &yaml.Node{Kind: yaml.MappingNode, Style: yaml.FlowStyle}, nil
	}
	if value.Kind() == reflect.Pointer {
		value = value.Elem()
	}
	if d, ok := value.Interface().(time.Duration); ok {
		return scalar(d.String()), nil
	}
	err := node.Encode(value.Interface())
	return node, err
}

func (c Config) comment(key string) string {
	switch c.Origins[key] {
	case FromFile:
		return "file"
	case FromEnv:
		return "env " + EnvName(key)
	case FromFlag:
		return "flag"
	}
	return "default"
}

func scalar(s string) *yaml.Node { return &yaml.Node{Kind: yaml.ScalarNode, Value: s} }
