// Package chaos holds tests only: the real binary with its real processes, killed at random moments with SIGKILL, and
// the proof afterwards that nothing was lost and nothing ran twice.
package chaos
