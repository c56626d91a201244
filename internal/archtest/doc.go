// Package archtest holds tests only: who may import whom, who may read the environment and the clock, and how large a file
// may grow. docs/architecture.md has the picture; a rule that stands in the way of a better shape is changed here and there
// in the same commit.
package archtest
