package run

import (
	"crypto/sha1" // not for security: Airflow's jitter is defined by it
	"fmt"
	"math"
	"math/big"
	"time"
)

// DefaultMaxRetryDelay caps every retry delay unless the installation says otherwise.
const DefaultMaxRetryDelay = 24 * time.Hour

// Retry is how a task wants its retries spaced.
type Retry struct {
	Delay time.Duration
	// Factor is the multiplier of exponential backoff; 0 is plain delay.
	Factor float64
	// Max caps the delay with backoff; 0 is no cap of the task's own.
	Max time.Duration
	// GlobalMax is the installation's cap with backoff; 0 is DefaultMaxRetryDelay.
	GlobalMax time.Duration
}

// Wait is how long after the end of a failed try the next one may begin. try counts from 1 for the first try.
//
// Without backoff it is Delay. With backoff it follows Airflow: a base of ceil(Delay × Factor^(try−1)) seconds, at least
// one, plus a jitter below the base that is a hash of what is tried, so that it is the same whenever it is computed and
// instances that failed together do not come back together; then the caps apply.
func (r Retry) Wait(try int, k Key, logicalDate *time.Time) time.Duration {
	if r.Factor == 0 {
		return r.Delay
	}
	limit := r.GlobalMax
	if limit == 0 {
		limit = DefaultMaxRetryDelay
	}
	if r.Max > 0 {
		limit = min(limit, r.Max)
	}
	base := math.Ceil(r.Delay.Seconds() * math.Pow(r.Factor, float64(max(try, 1)-1)))
	if base >= limit.Seconds() || math.IsNaN(base) { // jitter only adds
		return limit
	}
	seconds := max(int64(base), 1)
	wait := time.Duration(seconds+jitter(try, k, logicalDate, seconds)) * time.Second
	return min(wait, limit)
}

func jitter(try int, k Key, logicalDate *time.Time, below int64) int64 {
	date := "None"
	if logicalDate != nil {
		date = pythonTime(*logicalDate)
	}
	sum := sha1.Sum(fmt.Appendf(nil, "%s#%s#%s#%d", k.DAGID, k.TaskID, date, try))
	rest := new(big.Int).SetBytes(sum[:])
	return rest.Mod(rest, big.NewInt(below)).Int64()
}

// pythonTime writes a time in UTC as Python's str(datetime) does.
func pythonTime(t time.Time) string {
	t = t.UTC()
	if t.Nanosecond()/1000 == 0 {
		return t.Format("2006-01-02 15:04:05+00:00")
	}
	return t.Format("2006-01-02 15:04:05.000000+00:00")
}
