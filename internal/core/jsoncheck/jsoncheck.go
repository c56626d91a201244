// Package jsoncheck tells whether a text that passes by in pieces is JSON.
//
// encoding/json wants a whole text, or at least each whole string of it, in memory. A Checker keeps a byte for every list and
// object that is open, and nothing else, however long the text is. It accepts what encoding/json accepts, except that strings
// must be UTF-8, as Python's reader wants them.
package jsoncheck

import (
	"fmt"
	"io"
	"strings"
)

// maxDepth is how deep lists and objects may lie in each other, as in encoding/json.
const maxDepth = 10_000

// A state is what may come next.
type state byte

const (
	value      state = iota // the zero value: a text begins
	firstValue              // or the end of the list
	key
	firstKey // or the end of the object
	colon
	after // a value
	inString
	escape
	hex
	literal
	minus // the parts of a number
	zero
	digits
	point
	fraction
	exponent
	sign
	power
)

var awaited = map[state]string{
	value: "a value", firstValue: `a value or "]"`, key: "a name in quotes", firstKey: `a name in quotes or "}"`, colon: `":"`, after: `"," or the end of the list or object`,
	inString: "a character of a string", escape: "the rest of an escape", hex: "four hexadecimal digits", literal: "true, false or null",
	minus: "a digit", point: "a digit", exponent: "a digit or a sign", sign: "a digit",
}

// A Checker is written a text to; Close says whether it was JSON. The zero value is ready.
type Checker struct {
	at     int64 // bytes seen
	state  state
	open   []byte // '[' and '{'
	isKey  bool   // the string is a name
	rest   string // of a literal
	digits int    // of an escape, still to come
	low    byte   // the next byte of a character is at least this; 0 between characters
	high   byte
	more   int // bytes of a character after the next
	err    error
}

// awaited says what was to come.
func (c *Checker) awaited() string {
	switch {
	case c.state == after && len(c.open) == 0:
		return "the end of the text"
	case c.state <= firstValue && len(c.open) == maxDepth:
		return fmt.Sprintf("a value: at most %d lists and objects may lie in each other", maxDepth)
	}
	return awaited[c.state]
}

// Write takes the next piece. It fails at the first byte that cannot be, and so does every later call.
func (c *Checker) Write(p []byte) (int, error) {
	for i := 0; i < len(p) && c.err == nil; {
		n := c.run(p[i:])
		i, c.at = i+n, c.at+int64(n)
		if i == len(p) {
			break
		}
		if !c.next(p[i]) {
			c.err = fmt.Errorf("at byte %d: %q in the place of %s", c.at, p[i:i+1], c.awaited())
			break
		}
		i, c.at = i+1, c.at+1
	}
	if c.err != nil {
		return 0, c.err
	}
	return len(p), nil
}

// Close says whether the whole text was JSON.
func (c *Checker) Close() error {
	if c.err != nil {
		return c.err
	}
	if len(c.open) > 0 || c.state != after && !c.numberMayEnd() {
		return fmt.Errorf("after %d bytes: %w", c.at, io.ErrUnexpectedEOF)
	}
	return nil
}

// run is how many bytes at the beginning leave everything as it is: those of a string that mean themselves, or digits.
func (c *Checker) run(p []byte) int {
	i := 0
	switch {
	case c.state == inString && c.low == 0:
		for i < len(p) && p[i] >= 0x20 && p[i] < 0x80 && p[i] != '"' && p[i] != '\\' {
			i++
		}
	case c.state == digits || c.state == fraction || c.state == power:
		for i < len(p) && isDigit(p[i]) {
			i++
		}
	}
	return i
}

// next takes one byte and tells whether it may come here.
func (c *Checker) next(b byte) bool {
	switch c.state {
	case inString:
		return c.character(b)
	case escape, hex:
		return c.escaped(b)
	case literal:
		return c.spell(b)
	case minus, zero, digits, point, fraction, exponent, sign, power:
		if c.number(b) {
			return true
		}
		if !c.numberMayEnd() {
			return false
		}
		c.state = after
	}
	if b == ' ' || b == '\t' || b == '\n' || b == '\r' {
		return true
	}
	switch c.state {
	case key, firstKey:
		return b == '"' && c.begin(inString, true) || c.state == firstKey && b == '}' && c.close('{')
	case colon:
		return b == ':' && c.begin(value, false)
	case after:
		return c.afterValue(b)
	}
	return c.value(b) || c.state == firstValue && b == ']' && c.close('[')
}

// begin goes on in a state.
func (c *Checker) begin(s state, isKey bool) bool {
	c.state, c.isKey = s, isKey
	return true
}

// value takes the first byte of a value.
func (c *Checker) value(b byte) bool {
	switch {
	case b == '"':
		return c.begin(inString, false)
	case b == '[' || b == '{':
		if len(c.open) == maxDepth {
			return false
		}
		c.open = append(c.open, b)
		if b == '{' {
			return c.begin(firstKey, false)
		}
		return c.begin(firstValue, false)
	case b == '-':
		return c.begin(minus, false)
	case b == '0':
		return c.begin(zero, false)
	case isDigit(b):
		return c.begin(digits, false)
	}
	for _, word := range [...]string{"true", "false", "null"} {
		if b == word[0] {
			c.rest = word[1:]
			return c.begin(literal, false)
		}
	}
	return false
}

// afterValue takes what stands behind a value: a comma, or the end of what it is in.
func (c *Checker) afterValue(b byte) bool {
	if len(c.open) == 0 {
		return false
	}
	list := c.open[len(c.open)-1] == '['
	switch {
	case b == ',' && list:
		return c.begin(value, false)
	case b == ',':
		return c.begin(key, false)
	case b == ']':
		return c.close('[')
	case b == '}':
		return c.close('{')
	}
	return false
}

// close ends the innermost list or object, which must have begun with a byte.
func (c *Checker) close(with byte) bool {
	last := len(c.open) - 1
	if c.open[last] != with {
		return false
	}
	c.open = c.open[:last]
	return c.begin(after, false)
}

// character takes a byte of a string that is not plain, or one of a character of several.
func (c *Checker) character(b byte) bool {
	switch {
	case c.low != 0:
		if b < c.low || b > c.high {
			return false
		}
		if c.low, c.high = 0x80, 0xbf; c.more == 0 {
			c.low = 0
		}
		c.more--
		return true
	case b == '\\':
		return c.begin(escape, c.isKey)
	case b == '"' && c.isKey:
		return c.begin(colon, false)
	case b == '"':
		return c.begin(after, false)
	}
	return b >= 0x80 && c.lead(b)
}

// lead takes the first byte of a character of several, as UTF-8 has it.
func (c *Checker) lead(b byte) bool {
	c.low, c.high = 0x80, 0xbf
	switch {
	case b >= 0xc2 && b <= 0xdf:
		c.more = 0
	case b >= 0xe0 && b <= 0xef:
		c.more = 1
	case b >= 0xf0 && b <= 0xf4:
		c.more = 2
	default:
		c.low = 0
		return false
	}
	switch b { // no longer than it must be, no surrogates, nothing beyond what Unicode has
	case 0xe0:
		c.low = 0xa0
	case 0xed:
		c.high = 0x9f
	case 0xf0:
		c.low = 0x90
	case 0xf4:
		c.high = 0x8f
	}
	return true
}

func (c *Checker) escaped(b byte) bool {
	if c.state == escape {
		if b == 'u' {
			c.digits = 4
			return c.begin(hex, c.isKey)
		}
		return strings.IndexByte(`"\/bfnrt`, b) >= 0 && c.begin(inString, c.isKey)
	}
	if !isDigit(b) && (b|0x20 < 'a' || b|0x20 > 'f') {
		return false
	}
	if c.digits--; c.digits == 0 {
		c.state = inString
	}
	return true
}

func (c *Checker) spell(b byte) bool {
	if b != c.rest[0] {
		return false
	}
	if c.rest = c.rest[1:]; c.rest == "" {
		c.state = after
	}
	return true
}

// number takes a byte that continues a number.
func (c *Checker) number(b byte) bool {
	switch c.state {
	case minus:
		if b == '0' {
			return c.begin(zero, false)
		}
		return isDigit(b) && c.begin(digits, false)
	case zero, digits, fraction:
		switch {
		case isDigit(b):
			return c.state != zero
		case b == '.':
			return c.state != fraction && c.begin(point, false)
		}
		return b|0x20 == 'e' && c.begin(exponent, false)
	case point:
		return isDigit(b) && c.begin(fraction, false)
	case exponent:
		if b == '+' || b == '-' {
			return c.begin(sign, false)
		}
	}
	return isDigit(b) && c.begin(power, false)
}

func (c *Checker) numberMayEnd() bool {
	return c.state == zero || c.state == digits || c.state == fraction || c.state == power
}

func isDigit(b byte) bool { return b >= '0' && b <= '9' }
