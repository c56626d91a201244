package jsoncheck_test

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"ostro.dev/ostro/internal/core/jsoncheck"
)

// check writes a text in pieces.
func check(text string, piece int) error {
	var c jsoncheck.Checker
	for len(text) > 0 {
		n := min(piece, len(text))
		if _, err := c.Write([]byte(text[:n])); err != nil {
			return err
		}
		text = text[n:]
	}
	return c.Close()
}

var texts = []string{
	"", " ", "1", "-0", "01", "-", "1.", "1.5", ".5", "1e", "1e+", "1E-07", "1ee", "0x1", "1 2", "--1", "NaN", "Infinity", "-Infinity", "0.0e0 ",
	"true", "tru", "trUe", "false", "null", "nulll", `"`, `""`, `"a`, `"\"`, `"\n\u00aF\\"`, `"\x"`, `"\u00g0"`, `"\u12"`, "\"\t\"", "\"\x7f\"", "\"\x00\"",
	"[", "]", "[]", "[,]", "[1,]", "[1 2]", "[1,2 , [ ] ]", "[1}", "{}", "{", "}", `{"a"}`, `{"a":}`, `{"a":1,}`, `{"a" : 1, "b":{"c":[{}]}}`, "{1:2}", `{"a":1]`,
	`{"a":"b"}x`, `[[[]]`, `{,}`, `["é","€","😀"]`, `{"é":1}`, `"/"`, "\ufeff1", strings.Repeat("[", 10_001), strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000),
}

func TestItAcceptsWhatEncodingJSONAccepts(t *testing.T) {
	for _, text := range texts {
		for _, piece := range []int{1, 2, 3, 1 << 20} {
			if err := check(text, piece); (err == nil) != json.Valid([]byte(text)) {
				t.Errorf("%.60q in pieces of %d: %v", text, piece, err)
			}
		}
	}
}

func TestAStringThatIsNotUTF8IsRefused(t *testing.T) {
	for _, text := range []string{"\"\xff\"", "\"\xc3\"", "\"\xc0\x80\"", "\"\xe0\x9f\xbf\"", "\"\xed\xa0\x80\"", "\"\xf4\x90\x80\x80\"", "\"\xf0\x8f\x80\x80\"", "\"\x80\"", "\"\xe2\x82\""} {
		if err := check(text, 1); err == nil {
			t.Errorf("%q was accepted", text)
		}
	}
}

func TestARefusalSaysWhereAndWhatWasToCome(t *testing.T) {
	for text, want := range map[string]string{
		`[1, NaN]`:   `at byte 4: "N" in the place of a value`,
		`{"a" 1}`:    `at byte 5: "1" in the place of ":"`,
		`["cut off`:  `after 9 bytes: unexpected EOF`,
		"\"a\nb\"":   `at byte 2: "\n" in the place of a character of a string`,
		`{"a":1} {}`: `at byte 8: "{" in the place of the end of the text`,
		`[1 2]`:      `at byte 3: "2" in the place of "," or the end of the list or object`,
	} {
		if err := check(text, 1); err == nil || err.Error() != want {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

func FuzzItAgreesWithEncodingJSON(f *testing.F) {
	for _, text := range texts {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, piece := range []int{1, 7} {
			if err := check(text, piece); (err == nil) != (json.Valid([]byte(text)) && utf8.ValidString(text)) {
				t.Errorf("%q: %v", text, err)
			}
		}
	})
}

func BenchmarkALargeString(b *testing.B) {
	text := []byte(`["` + strings.Repeat("x", 63<<20) + `"]`)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		var c jsoncheck.Checker
		if _, err := c.Write(text); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkManyNumbers(b *testing.B) {
	text := []byte("[" + strings.Repeat("0.12345678,", 6<<20) + "1]")
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		var c jsoncheck.Checker
		if _, err := c.Write(text); err != nil {
			b.Fatal(err)
		}
	}
}
