// Package excerpt bounds the texts that tasks and DAG files hand over: why a task failed, the traceback of an import. They
// are stored with every attempt, answered to every request and shown in tables, and their authors may raise any text at all.
//
// It promises that what is kept is never longer than its limit, that what was cut says so and how long it was, and that
// cutting twice changes nothing. It must not know what the texts are about.
package excerpt

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

// How many characters are kept, documented in docs/semantics.md.
const (
	// Reason is for why something ended or was refused.
	Reason = 4096
	// Traceback is for the traceback of an import, a trigger or a timetable.
	Traceback = 65536
	// Notice is for a remark beside the result.
	Notice = 1024
)

// cut is how a text ends that was cut here or in the Python runtime.
var cut = regexp.MustCompile(`\n?… \([0-9 ]{1,20} characters in all(?:; the log has them)?\)$`)

// Seam splits a text that was cut into what was kept and the words about the rest; words is empty when it is whole.
func Seam(text string) (kept, words string) {
	if !strings.HasSuffix(text, ")") {
		return text, ""
	}
	if at := cut.FindStringIndex(text); at != nil {
		return text[:at[0]], text[at[0]:]
	}
	return text, ""
}

// Of is a text of at most limit characters. One that a former cut has shortened keeps the words about it.
func Of(text string, limit int) string { return of(text, limit, "") }

// OfLogged is Of for a text that the task's log has whole.
func OfLogged(text string, limit int) string { return of(text, limit, "; the log has them") }

func of(text string, limit int, where string) string {
	if len(text) <= limit {
		return text
	}
	n := utf8.RuneCountInString(text)
	if n <= limit {
		return text
	}
	kept, words := Seam(text)
	if words == "" {
		words = fmt.Sprintf("… (%s characters in all%s)", grouped(n), where)
	}
	return first(kept, limit-utf8.RuneCountInString(words)) + words
}

// first is the first n characters of a text.
func first(text string, n int) string {
	for at := range text {
		if n--; n < 0 {
			return text[:at]
		}
	}
	return text
}

// grouped writes a number as 6 000 000.
func grouped(n int) string {
	digits := strconv.Itoa(n)
	var b strings.Builder
	for i, d := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			b.WriteByte(' ')
		}
		b.WriteRune(d)
	}
	return b.String()
}
