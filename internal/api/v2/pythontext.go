package v2

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"unicode"
)

// pythonText writes a JSON value as Python's str() of it, which is what Airflow shows for ?stringify=true: a string as
// it is, everything else as repr(). Members keep their order.
func pythonText(raw json.RawMessage) (string, error) {
	var s string
	if json.Unmarshal(raw, &s) == nil && len(raw) > 0 && raw[0] == '"' {
		return s, nil
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var b strings.Builder
	if err := writeRepr(&b, d); err != nil {
		return "", err
	}
	return b.String(), nil
}

func writeRepr(b *strings.Builder, d *json.Decoder) error {
	t, err := d.Token()
	if err != nil {
		return err
	}
	switch t := t.(type) {
	case nil:
		b.WriteString("None")
	case bool:
		b.WriteString(map[bool]string{true: "True", false: "False"}[t])
	case json.Number:
		b.WriteString(t.String())
	case string:
		b.WriteString(pythonQuote(t))
	case json.Delim:
		return writeReprInside(b, d, t)
	}
	return nil
}

func writeReprInside(b *strings.Builder, d *json.Decoder, open json.Delim) error {
	b.WriteRune(rune(open))
	for first := true; d.More(); first = false {
		if !first {
			b.WriteString(", ")
		}
		if err := writeRepr(b, d); err != nil {
			return err
		}
		if open == '{' {
			b.WriteString(": ")
			if err := writeRepr(b, d); err != nil {
				return err
			}
		}
	}
	end, err := d.Token()
	if err != nil {
		return err
	}
	b.WriteRune(rune(end.(json.Delim)))
	return nil
}

// pythonQuote is repr() of a str: single quotes unless the text holds some and no double ones.
func pythonQuote(s string) string {
	quote := '\''
	if strings.ContainsRune(s, '\'') && !strings.ContainsRune(s, '"') {
		quote = '"'
	}
	var b strings.Builder
	b.WriteRune(quote)
	for _, c := range s {
		switch {
		case c == quote || c == '\\':
			b.WriteRune('\\')
			b.WriteRune(c)
		case c == '\n':
			b.WriteString(`\n`)
		case c == '\r':
			b.WriteString(`\r`)
		case c == '\t':
			b.WriteString(`\t`)
		case c < 0x20 || c == 0x7f:
			fmt.Fprintf(&b, `\x%02x`, c)
		case !unicode.IsPrint(c) && c < 0x100:
			fmt.Fprintf(&b, `\x%02x`, c)
		case !unicode.IsPrint(c) && c < 0x10000:
			fmt.Fprintf(&b, `\u%04x`, c)
		case !unicode.IsPrint(c):
			fmt.Fprintf(&b, `\U%08x`, c)
		default:
			b.WriteRune(c)
		}
	}
	b.WriteRune(quote)
	return b.String()
}
