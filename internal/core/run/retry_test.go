package run

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

var (
	retryKey  = Key{DAGID: "dag", RunID: "r", TaskID: "task", MapIndex: -1}
	retryDate = time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
)

func TestWaitsBetweenRetries(t *testing.T) {
	for _, c := range []struct {
		name  string
		retry Retry
		try   int
		want  time.Duration
	}{
		{"plain", Retry{Delay: 5 * time.Minute}, 3, 5 * time.Minute},
		{"plain delays are not capped", Retry{Delay: 48 * time.Hour, Max: time.Minute}, 1, 48 * time.Hour},
		{"no delay at all", Retry{}, 1, 0},
		// The jitter is int(sha1("dag#task#2024-01-01 00:00:00+00:00#try"), 16) % base, computed with Python.
		{"backoff, first try", Retry{Delay: time.Minute, Factor: 2}, 1, 95 * time.Second},
		{"backoff, third try", Retry{Delay: time.Minute, Factor: 2}, 3, 296 * time.Second},
		{"backoff by 1.5", Retry{Delay: 7 * time.Second, Factor: 1.5}, 2, 21 * time.Second},
		{"backoff from nothing waits a second", Retry{Factor: 2}, 1, time.Second},
		{"the task's cap", Retry{Delay: time.Minute, Factor: 2, Max: 90 * time.Second}, 5, 90 * time.Second},
		{"the installation's cap", Retry{Delay: time.Hour, Factor: 10, Max: 96 * time.Hour}, 9, 24 * time.Hour},
		{"numbers beyond all bounds", Retry{Delay: time.Hour, Factor: 1000, GlobalMax: time.Hour}, 400, time.Hour},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := c.retry.Wait(c.try, retryKey, &retryDate); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

func TestBackoffStaysBetweenItsBaseAndTwiceThat(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		seconds := rapid.IntRange(1, 300).Draw(t, "delay")
		try := rapid.IntRange(1, 8).Draw(t, "try")
		r := Retry{Delay: time.Duration(seconds) * time.Second, Factor: 2, GlobalMax: 1000 * time.Hour}
		base := r.Delay << (try - 1)
		k := Key{DAGID: rapid.String().Draw(t, "dag"), TaskID: rapid.String().Draw(t, "task")}
		got := r.Wait(try, k, nil)
		if got < base || got >= 2*base {
			t.Fatalf("base %s, wait %s", base, got)
		}
		if again := r.Wait(try, k, nil); again != got {
			t.Fatalf("computed twice: %s and %s", got, again)
		}
	})
}
