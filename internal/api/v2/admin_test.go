package v2_test

import (
	"strings"
	"testing"

	"ostro.dev/ostro/internal/bundle"
	"ostro.dev/ostro/internal/core/dag"
	"ostro.dev/ostro/internal/core/run"
	"ostro.dev/ostro/internal/store"
)

func TestAnExtraThatIsNoJSONObjectIsRefusedWithThePlace(t *testing.T) {
	b := newBench(t)
	for extra, why := range map[string]string{`{bad`: "invalid character 'b' looking for beginning of object key string at character 2", `[1]`: "it is another JSON value", `null`: "it is another JSON value", `{"a":1`: "unexpected end of JSON input at character 6"} {
		body := `{"connection_id":"x","conn_type":"http","extra":` + quote(extra) + `}`
		b.want("POST", "/connections", body, 422, `{"detail":[{"type":"value_error","loc":["body","extra"],"msg":"Value error, The `+"`extra`"+` field must be a JSON object: `+why+`","input":`+quote(extra)+`}]}`)
	}
	b.want("PATCH", "/connections/pg", `{"connection_id":"pg","conn_type":"postgres","extra":"oops"}`, 422, `{"detail":[{"type":"value_error"…`)
	b.want("PATCH", "/connections/pg", `{"connection_id":"pg","conn_type":"postgres","extra":"***"}`, 200, `{"connection_id":"pg"…`)
	b.want("POST", "/connections", `{"connection_id":"x","conn_type":"http","extra":""}`, 201, `{"connection_id":"x"…`)
	b.want("PATCH", "/connections", `{"actions":[{"action":"create","entities":[{"connection_id":"y","conn_type":"http","extra":"{bad"}]}]}`, 200, `{"create":{"success":[],"errors":[{"error":"[{\"type\":\"value_error\"…`)
}

func TestAVariableNeedsAKey(t *testing.T) {
	b := newBench(t)
	b.want("POST", "/variables", `{"key":"","value":"1"}`, 422, `{"detail":[{"type":"string_too_short","loc":["body","key"]…`)
}

func quote(s string) string { return `"` + strings.ReplaceAll(s, `"`, `\"`) + `"` }

func TestASecretTooShortToBeMaskedIsSaid(t *testing.T) {
	b := newBench(t)
	const said = `"ostro":{"warnings":["variable my_token has fewer than 5 characters: it is too short to be masked in logs"]}}`
	b.want("POST", "/variables", `{"key":"my_token","value":"1234"}`, 201, `{"key":"my_token","value":"***","description":null,"is_encrypted":false,"team_name":null,`+said)
	b.want("GET", "/variables/my_token", "", 200, `{"key":"my_token","value":"***","description":null,"is_encrypted":false,"team_name":null}`)
	b.want("POST", "/variables", `{"key":"plain","value":"1234"}`, 201, `{"key":"plain","value":"1234","description":null,"is_encrypted":false,"team_name":null}`)
	code, body := b.do("POST", "/connections", `{"connection_id":"c","conn_type":"x","password":"abc","extra":"{\"api_key\":\"k\",\"region\":\"eu\"}"}`)
	if code != 201 || !strings.Contains(body, "the extra of connection c: api_key has fewer") || !strings.Contains(body, "the password of connection c has fewer") {
		t.Errorf("%d %s", code, body)
	}
}

func TestASecretTooShortToBeMaskedIsSaidOfBulkWritesToo(t *testing.T) {
	b := newBench(t)
	b.want("PATCH", "/variables", `{"actions":[{"action":"create","entities":[{"key":"my_token","value":"1"},{"key":"plain","value":"1"},{"key":"db_password","value":"2"}]},
		{"action":"update","entities":[{"key":"my_token","value":"long enough"}]}]}`, 200,
		`{"create":{"success":["my_token","plain","db_password"],"errors":[],"ostro":{"warnings":["variable my_token has fewer than 5 characters: it is too short to be masked in logs",`+
			`"variable db_password has fewer than 5 characters: it is too short to be masked in logs"]}},"update":{"success":["my_token"],"errors":[]},"delete":null}`)
	b.want("PATCH", "/connections", `{"actions":[{"action":"create","entities":[{"connection_id":"c","conn_type":"x","password":"abc"}]}]}`, 200,
		`{"create":{"success":["c"],"errors":[],"ostro":{"warnings":["the password of connection c has fewer than 5 characters: it is too short to be masked in logs"]}},"update":null,"delete":null}`)
}

func TestWhatIsHiddenIsShownToWhoAsksForIt(t *testing.T) {
	b := newBench(t)
	b.want("POST", "/variables", `{"key":"my_token","value":"s3cret"}`, 201, `{"key":"my_token","value":"***"…`)
	b.want("GET", "/variables/my_token?reveal=true", "", 200, `{"key":"my_token","value":"s3cret","description":null,"is_encrypted":false,"team_name":null}`)
	b.want("GET", "/variables/my_token?reveal=x", "", 422, `{"detail":[{"type":"bool_parsing"…`)
	b.want("GET", "/variables/nope?reveal=true", "", 404, `{…`)
	code, body := b.do("GET", "/connections/pg?reveal=true", "")
	if code != 200 || !strings.Contains(body, `"password":"hush"`) || strings.Contains(body, "***") {
		t.Errorf("%d %s", code, body)
	}
	code, body = b.do("GET", "/eventLogs?event=variable.revealed", "")
	if code != 200 || !strings.Contains(body, "my_token") || strings.Contains(body, "s3cret") || !strings.HasSuffix(body, `"total_entries":1}`) {
		t.Errorf("showing it was not recorded: %d %s", code, body)
	}
}

func TestANameThatIsAlmostRightIsAnsweredWithTheRightOne(t *testing.T) {
	b := newBench(t)
	b.want("GET", "/dags/elt", "", 404, "{\"detail\":\"The Dag with ID: `elt` was not found; did you mean `etl`?\"}")
	b.want("POST", "/dags/elt/dagRuns", `{"logical_date":null}`, 404, "{\"detail\":\"Dag with dag_id: 'elt' not found; did you mean `etl`?\"}")
	b.want("GET", tis+"/gte", "", 404, "{\"detail\":\"The Task Instance with dag_id: `etl`, run_id: `r1` and task_id: `gte` was not found; did you mean `get`?\"}")
	b.want("PATCH", tis+"/gte", `{"new_state":"success"}`, 404, "{\"detail\":\"The Task Instance with dag_id: `etl`, run_id: `r1` and task_id: `gte` was not found; did you mean `get`?\"}")
	b.want("GET", "/dags/etl/tasks/spilt", "", 404, "{\"detail\":\"Task with id spilt was not found in Dag `etl`; did you mean `split`?\"}")
	b.want("GET", "/dags/etl/tasks/zzz", "", 404, "{\"detail\":\"Task with id zzz was not found in Dag `etl`\"}")
}

func TestADAGIsDeletedOnceItsRunsHaveEnded(t *testing.T) {
	b := newBench(t)
	b.want("DELETE", "/dags/elt", "", 404, "{\"detail\":\"The Dag with ID: `elt` was not found; did you mean `etl`?\"}")
	if err := b.db.Update(t.Context(), "test", t0, func(tx *store.Tx) error {
		return tx.CreateRun(&run.DAGRun{DAGID: "etl", RunID: "live", Type: run.TypeManual, State: run.RunRunning, RunAfter: t0, QueuedAt: t0, DAGVersion: 1}, nil)
	}); err != nil {
		t.Fatal(err)
	}
	b.want("DELETE", "/dags/etl", "", 409, `{"detail":"delete DAG etl: 1 of its runs are not finished"}`)
	if b.deleted != 0 {
		t.Error("a refused deletion was told")
	}
}

func TestADeletedDAGIsGoneWithItsRuns(t *testing.T) {
	b := newBench(t)
	b.want("DELETE", "/dags/etl", "", 204, "")
	b.want("GET", "/dags/etl", "", 404, `{…`)
	b.want("GET", runs+"/r1", "", 404, `{…`)
	if b.deleted != 1 {
		t.Error("nobody was told")
	}
}

func TestWarningsAreListedForEachDAGOfTheirFile(t *testing.T) {
	b := newBench(t)
	b.warned = []bundle.Warning{{File: "etl.py", DAGIDs: []string{"etl", "gone"}, Message: "etl.py:3: provide_context has no effect", At: t0}}
	first := `{"dag_id":"etl","warning_type":"runtime varying value","message":"etl.py:3: provide_context has no effect","timestamp":"2024-01-31T02:00:00.123456Z","dag_display_name":"etl","ostro":{"file":"etl.py","kind":"import"}}`
	b.want("GET", "/dagWarnings?warning_type=runtime%20varying%20value", "", 200, `{"dag_warnings":[`+first+`],"total_entries":1}`)
	if err := b.db.Update(t.Context(), "test", t0, func(tx *store.Tx) error {
		d := &dag.DAG{ID: "pools", File: "p.py", Schedule: dag.Schedule{Kind: dag.ScheduleNone}, Tasks: []dag.Task{{ID: "a", Pool: "nowhere"}, {ID: "b"}}}
		_, _, err := tx.PutDAG(d, "dags-folder", "v", false)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	b.want("GET", "/dagWarnings?dag_id=pools", "", 200, `{"dag_warnings":[{"dag_id":"pools","warning_type":"non-existent pool","message":"Dag 'pools' references non-existent pools: ['nowhere']"…`)
	b.want("GET", "/dagWarnings?order_by=-dag_id&limit=1", "", 200, `{"dag_warnings":[{"dag_id":"pools"…`)
	b.want("GET", "/dagWarnings?warning_type=odd", "", 422, `{"detail":"Invalid value for warning_type…`)
}
