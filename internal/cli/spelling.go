package cli

import (
	"github.com/spf13/pflag"

	"ostro.dev/ostro/internal/core/spelling"
)

type flag = pflag.Flag

// didYouMean is "; did you mean X?" when a name is close enough to a known one.
func didYouMean(name string, known []string) string {
	if near := spelling.Nearest(name, known); near != "" {
		return "; did you mean " + near + "?"
	}
	return ""
}
