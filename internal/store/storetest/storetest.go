package storetest

import (
	"strings"
	"testing"

	"ostro.dev/ostro/internal/store"
)

// Exercise runs the conformance suite. open gives every call a new, empty database, with blobs in a folder of its own,
// and closes it when the test ends.
func Exercise(t *testing.T, open func(t *testing.T) *store.DB) {
	used := map[string]uint64{}
	for _, c := range []struct {
		name string
		test func(*fixture)
	}{
		{"DAG runs are created, changed under guard and deleted", testRuns},
		{"task instances change under guard, all or nothing", testTasks},
		{"attempts are kept and their tokens die with them", testAttempts},
		{"XComs large and small read back the same", testXComs},
		{"callbacks are owed until done", testCallbacks},
		{"what deferred instances wait for is kept until they go on", testWaits},
		{"questions to people are kept with their answers", testInputs},
		{"triggerers are kept until their end is known", testTriggerers},
		{"live runs are the ones not finished", testLiveRuns},
		{"DAGs are published in versions", testDAGs},
		{"bundle versions and import errors are kept", testBundles},
		{"variables, connections and pools are put and deleted", testAdmin},
		{"asset events are kept, queued and consumed once", testAssets},
		{"backfills are kept with their dates", testBackfills},
		{"listings filter, order and page", testLists},
		{"events come in commit order without gaps", testEvents},
		{"old history is cleaned away, live runs stay", testClean},
		{"a backup is a sound copy", testBackup},
		{"health is a durable write", testHealth},
	} {
		t.Run(c.name, func(t *testing.T) {
			db := open(t)
			c.test(newFixture(t, db))
			for text, n := range db.StatementUse() {
				used[text] += n
			}
		})
	}
	if t.Failed() {
		return
	}
	for text, n := range used {
		if n == 0 {
			t.Errorf("no test ran the statement %s", strings.Join(strings.Fields(text), " "))
		}
	}
}
