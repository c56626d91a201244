package simtest

import (
	"iter"
	"os"
)

// whole tells whether every case is played: `make soak` does, `make test` takes some.
func whole() bool { return os.Getenv("OSTRO_TEST_SIM") == "all" }

// chosen are the cases below n that are played: all of them, or about so many, evenly spread.
func chosen(n, some int) iter.Seq[int] {
	return func(yield func(int) bool) {
		step := 1
		if !whole() && n > some {
			step = n / some
		}
		for i := 0; i < n; i += step {
			if !yield(i) {
				return
			}
		}
	}
}
