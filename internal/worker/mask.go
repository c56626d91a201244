package worker

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// masked stands where a secret stood.
const masked = "***"

// minSecret is the shortest value that is masked: shorter ones would blank out ordinary text.
const minSecret = 5

// A masker replaces secret values in text. Values can be added while it is in use.
type masker struct {
	mu       sync.Mutex
	values   []string
	replacer atomic.Pointer[strings.Replacer]
}

// Add adds a value; each line of a value of several lines is a secret by itself, since logs are lines.
func (m *masker) Add(values ...string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	changed := false
	for _, v := range values {
		for _, part := range append([]string{v}, strings.Split(v, "\n")...) {
			part = strings.TrimSpace(part)
			if len(part) >= minSecret && !slices.Contains(m.values, part) {
				m.values = append(m.values, part)
				changed = true
			}
		}
	}
	if !changed {
		return
	}
	// The longest first: a secret that contains another must go as a whole.
	slices.SortFunc(m.values, func(a, b string) int { return len(b) - len(a) })
	var pairs []string
	for _, v := range m.values {
		pairs = append(pairs, v, masked)
	}
	m.replacer.Store(strings.NewReplacer(pairs...))
}

// Mask replaces every secret in s.
func (m *masker) Mask(s string) string {
	r := m.replacer.Load()
	if r == nil {
		return s
	}
	return r.Replace(s)
}

// MaskJSON replaces every secret in the strings of a JSON value.
func (m *masker) MaskJSON(raw json.RawMessage) json.RawMessage {
	if m.replacer.Load() == nil || len(raw) == 0 {
		return raw
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var v any
	if d.Decode(&v) != nil {
		return raw
	}
	out, err := json.Marshal(m.maskValue(v))
	if err != nil {
		return raw
	}
	return out
}

func (m *masker) maskValue(v any) any {
	switch v := v.(type) {
	case string:
		return m.Mask(v)
	case []any:
		for i := range v {
			v[i] = m.maskValue(v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = m.maskValue(v[k])
		}
	}
	return v
}
