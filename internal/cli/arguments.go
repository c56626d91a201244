package cli

import (
	"errors"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"ostro.dev/ostro/internal/core/spelling"
)

// args checks the number of arguments and says which are missing, by the names in the usage line. An argument that is
// empty names nothing: a script's variable was not set, and "the latest run" is not what its author meant.
func args(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, given []string) error {
		fault := ""
		switch {
		case len(given) < least:
			fault = "an argument is missing"
		case most >= 0 && len(given) > most:
			fault = "too many arguments"
		default:
			for i, text := range given {
				if word := wordAt(cmd, i); text == "" && !mayBeEmpty[word] {
					fault = word + " is empty"
				}
			}
		}
		if fault == "" {
			return nil
		}
		return &problem{code: exitUsage, err: errors.New(fault), hint: "usage: " + cmd.UseLine()}
	}
}

// mayBeEmpty are the words of usage lines that stand for any text.
var mayBeEmpty = map[string]bool{"VALUE": true, "DESCRIPTION": true}

// wordAt is what the usage line calls the argument at a place; the last word stands for all that follow when it says so.
func wordAt(cmd *cobra.Command, at int) string {
	words := strings.Fields(cmd.Use)[1:]
	if last := len(words) - 1; at > last && last >= 0 && strings.HasSuffix(words[last], "...") {
		at = last
	}
	if at >= len(words) {
		return "an argument"
	}
	return strings.Trim(words[at], "[].")
}

// negative is what Airflow's command line takes for a number rather than for flags.
var negative = regexp.MustCompile(`^-(\d+|\d*\.\d+)$`)

// numbersAreArguments lets negative numbers be arguments, as in Airflow: the arguments of a line that has some are moved
// behind "--", where no flags are looked for.
func numbersAreArguments(root *cobra.Command, line []string) []string {
	if !slices.ContainsFunc(line, negative.MatchString) || strings.HasPrefix(line[0], "__") || slices.Contains(line, "--") {
		return line
	}
	cmd, rest, err := root.Find(line)
	if err != nil {
		return line
	}
	out, words := strings.Fields(cmd.CommandPath())[1:], []string{}
	for i := 0; i < len(rest); i++ {
		if word := rest[i]; word == "-" || !strings.HasPrefix(word, "-") || negative.MatchString(word) {
			words = append(words, word)
			continue
		}
		out = append(out, rest[i])
		if valueFollows(cmd, rest[i]) && i+1 < len(rest) {
			i++
			out = append(out, rest[i])
		}
	}
	return append(append(out, "--"), words...)
}

// valueFollows tells whether the argument after a flag is its value.
func valueFollows(cmd *cobra.Command, word string) bool {
	if name, long := strings.CutPrefix(word, "--"); long {
		f := cmd.Flag(name)
		return f != nil && f.NoOptDefVal == ""
	}
	for i, letter := range word[1:] {
		f := cmd.Flags().ShorthandLookup(string(letter))
		if f == nil {
			f = cmd.InheritedFlags().ShorthandLookup(string(letter))
		}
		if f == nil {
			return false
		}
		if f.NoOptDefVal == "" { // it takes the rest of the word, or else the next one
			return i == len(word)-2
		}
	}
	return false
}

// goParse is how Go's parsers of numbers begin what they say.
var goParse = regexp.MustCompile(`: strconv\.Parse(\w+): parsing .*?: (invalid syntax|value out of range)$`)

// kinds are the words for what a flag of a Go type takes.
var kinds = map[string]string{"Int": "a whole number", "Uint": "a whole number", "Bool": "true or false", "Float": "a number"}

func flagError(cmd *cobra.Command, err error) error {
	text := err.Error()
	if m := goParse.FindStringSubmatch(text); m != nil {
		why := "it is not " + kinds[m[1]]
		if m[2] != "invalid syntax" {
			why = "it is too large"
		}
		text = strings.TrimSuffix(text, m[0]) + ": " + why
	}
	if name, ok := strings.CutPrefix(text, "unknown flag: --"); ok {
		var names []string
		for _, set := range []interface{ VisitAll(func(*flag)) }{cmd.Flags(), cmd.InheritedFlags()} {
			set.VisitAll(func(f *flag) { names = append(names, f.Name) })
		}
		if near := spelling.Nearest(name, names); near != "" {
			text += "; did you mean --" + near + "?"
		}
	}
	return &problem{code: exitUsage, err: errors.New(text), hint: "see: " + cmd.CommandPath() + " --help"}
}
