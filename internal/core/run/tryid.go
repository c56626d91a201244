package run

import (
	"crypto/sha1" //nolint:gosec // a name for a UUID of version 5, not a secret
	"encoding/hex"
	"strconv"
)

// TryID is what Airflow calls the id of a task instance: a UUID that every try has of its own, and that stays while a try is
// deferred or rescheduled, whatever number of attempts it has. The first try has the instance's own.
func (t TaskInstance) TryID() string {
	if t.TryNumber <= 1 {
		return t.ID
	}
	sum := sha1.Sum([]byte(t.ID + "/" + strconv.Itoa(t.TryNumber))) //nolint:gosec // see above
	sum[6], sum[8] = sum[6]&0x0f|0x50, sum[8]&0x3f|0x80
	h := hex.EncodeToString(sum[:16])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}
