package run

import (
	"regexp"
	"testing"
)

func TestEveryTryHasAnIDOfItsOwn(t *testing.T) {
	ti := TaskInstance{ID: "01890a5d-ac96-774b-bcce-b302099a8057"}
	seen := map[string]int{}
	form := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[57][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	for try := range 5 {
		ti.TryNumber = try
		id := ti.TryID()
		if before, known := seen[id]; known && before > 0 || !form.MatchString(id) {
			t.Errorf("try %d has the id %s", try, id)
		}
		seen[id] = try
		ti.AttemptID = "another" // as after a deferral
		if again := ti.TryID(); again != id {
			t.Errorf("try %d has two ids, %s and %s", try, id, again)
		}
	}
	ti.TryNumber = 1
	if ti.TryID() != ti.ID {
		t.Errorf("the first try has the id %s", ti.TryID())
	}
}
