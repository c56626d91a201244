package v2_test

import (
	"fmt"
	"testing"

	"ostro.dev/ostro/internal/scheduler"
)

func TestBackfillsThatTheSchedulerRefusesAnswerWithAirflowsStatuses(t *testing.T) {
	b := newBench(t)
	const body = `{"dag_id":"etl","from_date":"2024-01-01T00:00:00Z","to_date":"2024-01-02T00:00:00Z","run_on_latest_version":false}`
	b.want("POST", "/backfills/dry_run", body, 200, `{"backfills":[{"logical_date":"2024-01-01T00:00:00Z","partition_key":null,"partition_date":null}],"total_entries":1}`)
	if got, ok := b.sched.got[len(b.sched.got)-1].(scheduler.BackfillRequest); !ok || !got.KeepVersion || got.DAGID != "etl" {
		t.Errorf("the scheduler was asked %+v", got)
	}
	b.want("POST", "/backfills", `{"dag_id":"nope","from_date":"2024-01-01T00:00:00Z","to_date":"2024-01-02T00:00:00Z"}`, 404, `{"detail":"Could not find dag nope"}`)
	for _, c := range []struct {
		err    error
		status int
		answer string
	}{
		{fmt.Errorf("it makes no sense: %w", scheduler.ErrInvalid), 422, `{"detail":"it makes no sense"}`},
		{fmt.Errorf("one is open: %w", scheduler.ErrConflict), 409, `{"detail":"There is already a running backfill for dag etl"}`},
	} {
		b.sched.refuse = c.err
		b.want("POST", "/backfills", body, c.status, c.answer)
	}
	b.want("PUT", "/backfills/7/cancel", "", 409, `{"detail":"Backfill is already completed."}`)
	b.sched.refuse = fmt.Errorf("no such: %w", scheduler.ErrNotFound)
	b.want("PUT", "/backfills/7/pause", "", 404, `{"detail":"Backfill not found"}`)
	b.want("GET", "/backfills/x", "", 422, `{"detail":[{"type":"int_parsing","loc":["path","backfill_id"],"msg":"Input should be a valid integer, unable to parse string as an integer","input":"x"}]}`)
	b.want("GET", "/assets/9", "", 404, "{\"detail\":\"The Asset with ID: `9` was not found\"}")
	b.want("POST", "/assets/events", `{"asset_id":9}`, 404, "{\"detail\":\"Asset with ID: `9` was not found\"}")
	b.want("POST", "/assets/9/materialize", "", 404, `{"detail":"No Dag materializes asset with ID: 9"}`)
	b.want("DELETE", "/dags/etl/assets/queuedEvents", "", 404, "{\"detail\":\"Queue event with dag_id: `etl` was not found\"}")
}
