// Package secret keeps secrets secret: it seals them for storage, replaces them in text that people see, and knows which
// names are likely to hold one.
//
// The package promises that a sealed value can be read only with the key file and in its own place, and that a masked
// text holds none of the values it was told about. It must not know where secrets come from or where text goes.
package secret

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"unicode/utf16"
	"unicode/utf8"
)

// TooShort says that a value is one that Add leaves alone, so that logs would show it.
func TooShort(value string) bool { return value != "" && len([]rune(value)) < minLength }

// MinLength is the length from which Add hides a value.
const MinLength = minLength

// Hidden is what stands where a secret was.
const Hidden = "***"

// minLength is the length below which a value is not masked unless it is told explicitly: replacing every "1" or "root"
// makes a log unreadable and hides nothing. It is Airflow's limit.
const minLength = 5

// A Masker replaces secrets in text. It is safe for concurrent use; the zero value knows no secrets.
type Masker struct {
	mu       sync.RWMutex
	values   map[string]struct{}
	replacer *strings.Replacer
}

// Add tells the masker values to hide. Values shorter than five characters are left alone. Of a value with several lines
// each line is hidden too, since logs come line by line; so are the forms a value takes inside JSON, quotes and a URI.
func (m *Masker) Add(values ...string) { m.add(minLength, values) }

// AddExplicit is Add for values that a person or program named as secret in so many words: only empty ones are left alone.
func (m *Masker) AddExplicit(values ...string) { m.add(1, values) }

func (m *Masker) add(least int, values []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	before := len(m.values)
	if m.values == nil {
		m.values = map[string]struct{}{}
	}
	for _, value := range values {
		for _, form := range forms(value) {
			if len([]rune(form)) >= least && form != Hidden {
				m.values[form] = struct{}{}
			}
		}
	}
	if len(m.values) == before {
		return
	}
	// A Replacer prefers the pair that comes first, so the longest has to: no part of a longer secret may be left over.
	sorted := make([]string, 0, len(m.values))
	for value := range m.values {
		sorted = append(sorted, value)
	}
	slices.SortFunc(sorted, func(a, b string) int {
		if len(a) != len(b) {
			return len(b) - len(a)
		}
		return strings.Compare(a, b)
	})
	pairs := make([]string, 0, 2*len(sorted))
	for _, value := range sorted {
		pairs = append(pairs, value, Hidden)
	}
	m.replacer = strings.NewReplacer(pairs...)
}

// forms lists how a value can show up in text: as it is, line by line, inside JSON, inside what Python prints of a list or
// dict, and inside a URI.
func forms(value string) []string {
	out := []string{value}
	add := func(form string) {
		if form != "" && !slices.Contains(out, form) {
			out = append(out, form)
		}
	}
	if strings.ContainsAny(value, "\r\n") {
		for line := range strings.Lines(value) {
			// A line such as "}" or "-----END…" alone says nothing, but a short one would be masked everywhere.
			if line = strings.TrimSpace(line); len([]rune(line)) >= minLength {
				add(line)
			}
		}
	}
	add(strings.TrimSpace(value))
	add(inJSON(value))
	add(ascii(inJSON(value)))
	add(escapes.Replace(value))
	for _, form := range slices.Clone(out) {
		if plain(form) {
			continue
		}
		escaped := url.QueryEscape(form)
		add(escaped)
		escaped = strings.ReplaceAll(escaped, "+", "%20")
		add(escaped)
		add(strings.ReplaceAll(escaped, "%2F", "/"))
	}
	return out
}

// escapes is how Python writes a text between quotes.
var escapes = strings.NewReplacer("\\", `\\`, "\n", `\n`, "\r", `\r`, "\t", `\t`)

// plain says whether a text is the same in a URI.
func plain(text string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("-_.~", r))
	})
}

// inJSON is a text as it stands between the quotes of a JSON string.
func inJSON(text string) string {
	var quoted bytes.Buffer
	encoder := json.NewEncoder(&quoted)
	encoder.SetEscapeHTML(false)
	if encoder.Encode(text) != nil {
		return ""
	}
	inner := strings.TrimSpace(quoted.String())
	return inner[1 : len(inner)-1]
}

// ascii is JSON text with every character beyond ASCII as an escape, as Python writes it.
func ascii(text string) string {
	var out strings.Builder
	for _, unit := range utf16.Encode([]rune(text)) {
		if unit < utf8.RuneSelf {
			out.WriteByte(byte(unit))
			continue
		}
		fmt.Fprintf(&out, `\u%04x`, unit)
	}
	return out.String()
}

// Find returns what is secret of a text that stands under a name: all of it when the name is sensitive, and, when the
// text is JSON, what is under sensitive keys in it.
func Find(name, text string) []string {
	var out []string
	secret := IsSensitive(name)
	if secret {
		out = append(out, text)
	}
	if trimmed := strings.TrimSpace(text); trimmed == "" || !strings.Contains(`{["`, trimmed[:1]) {
		return out
	}
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.UseNumber()
	var value any
	if decoder.Decode(&value) != nil {
		return out
	}
	return collect(out, secret, value)
}

// collect adds the texts and numbers in a decoded JSON value that are secret: all, or those under sensitive keys.
func collect(out []string, all bool, value any) []string {
	switch v := value.(type) {
	case string:
		if all {
			out = append(out, v)
		}
	case json.Number:
		if all {
			out = append(out, v.String())
		}
	case []any:
		for _, item := range v {
			out = collect(out, all, item)
		}
	case map[string]any:
		for key, item := range v {
			out = collect(out, all || IsSensitive(key), item)
		}
	}
	return out
}

// MayBegin is how many bytes at the end of a text may be the beginning of a value to hide, which would show if the text
// were cut there.
func (m *Masker) MayBegin(text []byte) (n int) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	for value := range m.values {
		for k := min(len(value)-1, len(text)); k > n; k-- {
			if string(text[len(text)-k:]) == value[:k] {
				n = k
			}
		}
	}
	return n
}

// Mask is the text with every known secret replaced.
func (m *Masker) Mask(text string) string {
	m.mu.RLock()
	replacer := m.replacer
	m.mu.RUnlock()
	if replacer == nil || text == "" {
		return text
	}
	return replacer.Replace(text)
}

// MaskJSON replaces secrets inside the strings of a JSON text and every value whose key is sensitive. A text that is not
// JSON is masked as text.
func (m *Masker) MaskJSON(raw json.RawMessage) json.RawMessage {
	if len(raw) == 0 {
		return raw
	}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil {
		return json.RawMessage(m.Mask(string(raw)))
	}
	out, err := json.Marshal(m.redact("", value))
	if err != nil {
		return json.RawMessage(`"` + Hidden + `"`)
	}
	return out
}

// redact walks a decoded JSON value; name is the key it stands under.
func (m *Masker) redact(name string, value any) any {
	if name != "" && IsSensitive(name) {
		return hide(value)
	}
	switch v := value.(type) {
	case string:
		return m.Mask(v)
	case []any:
		for i := range v {
			v[i] = m.redact("", v[i])
		}
	case map[string]any:
		for key := range v {
			v[key] = m.redact(key, v[key])
		}
	}
	return value
}

// hide replaces what a sensitive key holds; nothing is left visible as nothing.
func hide(value any) any {
	switch v := value.(type) {
	case nil, bool:
		return v
	case string:
		if v == "" {
			return v
		}
	case []any:
		for i := range v {
			v[i] = hide(v[i])
		}
		return v
	case map[string]any:
		for key := range v {
			v[key] = hide(v[key])
		}
		return v
	}
	return Hidden
}

// sensitive are the parts of names that mark a secret: Airflow's list.
var sensitive = []string{
	"access_key", "access_token", "api_key", "apikey", "authorization", "connection_string", "keyfile_dict", "passphrase",
	"passwd", "password", "private_key", "proxies", "proxy", "secret", "service_account", "token",
}

// harmless are parts of names that would look sensitive and are everyday words of machine learning.
var harmless = strings.NewReplacer("tokeniz", "", "max_token", "", "num_token", "", "n_tokens", "", "new_tokens", "")

// IsSensitive says whether a name (of a variable, a field of a connection, a key in JSON, an environment variable) is
// likely to hold a secret.
func IsSensitive(name string) bool {
	name = strings.ReplaceAll(strings.ToLower(strings.TrimSpace(name)), "-", "_")
	name = harmless.Replace(name)
	return slices.ContainsFunc(sensitive, func(part string) bool { return strings.Contains(name, part) })
}
