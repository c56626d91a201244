package app

import (
	"time"

	"golang.org/x/sys/unix"
)

// sinceBoot is a clock that nobody can set and that goes on while the machine sleeps; nil where there is none.
func sinceBoot() func() time.Duration {
	read := func() (unix.Timespec, error) {
		var t unix.Timespec
		err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t)
		return t, err
	}
	if _, err := read(); err != nil {
		return nil
	}
	return func() time.Duration {
		t, _ := read() // it has answered before
		return time.Duration(t.Nano())
	}
}
