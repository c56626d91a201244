package excerpt

import (
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

func TestALongTextIsCutWithItsLength(t *testing.T) {
	got := OfLogged("ValueError: "+strings.Repeat("ß", 6_000_000-12), 60)
	if want := "ValueError:… (6 000 000 characters in all; the log has them)"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := Of(strings.Repeat("x", 1000), 40), strings.Repeat("x", 13)+"… (1 000 characters in all)"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if kept, words := Seam("a\n… (6 000 characters in all; the log has them)"); kept != "a" || words != "\n… (6 000 characters in all; the log has them)" {
		t.Errorf("seam: %q, %q", kept, words)
	}
	if kept, words := Seam("f(x)"); kept != "f(x)" || words != "" {
		t.Errorf("seam of a whole text: %q, %q", kept, words)
	}
}

func TestCuttingKeepsTheLimitAndIsDoneOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := strings.Repeat(rapid.String().Draw(t, "text"), rapid.IntRange(0, 300).Draw(t, "times"))
		limit := rapid.IntRange(100, 5000).Draw(t, "limit")
		once := OfLogged(text, limit)
		if utf8.RuneCountInString(once) > limit {
			t.Errorf("%d characters are left of at most %d", utf8.RuneCountInString(once), limit)
		}
		if utf8.RuneCountInString(text) <= limit && once != text {
			t.Errorf("%q became %q", text, once)
		}
		if again := Of(once, limit); again != once {
			t.Errorf("cut again, %q becomes %q", once, again)
		}
		smaller := limit - rapid.IntRange(0, limit-100).Draw(t, "less")
		_, words := Seam(once)
		if again := Of(once, smaller); words != "" && !strings.HasSuffix(again, words) {
			t.Errorf("cut shorter, the words %q are lost: %q", words, again)
		}
	})
}
