package v2_test

import (
	"bufio"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"

	"ostro.dev/ostro/internal/scheduler"
	"ostro.dev/ostro/internal/store"
)

const runs = "/dags/etl/dagRuns"
const tis = runs + "/r1/taskInstances"

func TestEveryOperationOfAirflowIsServedOrAnswers501WithAReason(t *testing.T) {
	b := newBench(t)
	f, err := os.Open("testdata/airflow_routes.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	param := regexp.MustCompile(`\{\w+\}`)
	paths, operations := map[string]bool{}, 0
	for s := bufio.NewScanner(f); s.Scan(); {
		method, path, ok := strings.Cut(s.Text(), " ")
		if !ok || method == "#" {
			continue
		}
		operations++
		paths[path] = true
		code, body := b.do(method, param.ReplaceAllString(path, "1"), "{}")
		switch {
		case code == http.StatusMethodNotAllowed, code == http.StatusInternalServerError, strings.Contains(body, "API route not found"):
			t.Errorf("%s %s: %d %s", method, path, code, body)
		case code == http.StatusNotImplemented && !strings.HasPrefix(body, `{"detail":"`):
			t.Errorf("%s %s: 501 without a reason: %s", method, path, body)
		}
	}
	if len(paths) != 79 || operations != 110 {
		t.Errorf("%d paths and %d operations, want 79 and 110", len(paths), operations)
	}
}

func TestUnknownRoutesAnswerAsAirflow(t *testing.T) {
	b := newBench(t)
	b.want("GET", "/nope", "", 404, `{"error":"API route not found"}`)
	b.want("GET", "/dags/", "", 404, `{"error":"API route not found"}`)
	b.want("PUT", "/dags", "", 405, `{"detail":"Method Not Allowed"}`)
}

func TestBodiesAreAirflows(t *testing.T) {
	b := newBench(t)
	for name, path := range map[string]string{
		"dags": "/dags", "dag_details": "/dags/etl/details", "dag_versions": "/dags/etl/dagVersions", "dag_source": "/dagSources/etl", "tasks": "/dags/etl/tasks",
		"dag_stats": "/dagStats", "dag_tags": "/dagTags", "runs": runs, "run": runs + "/r1", "task_instances": tis, "task_instance": tis + "/get",
		"mapped": tis + "/split/listMapped", "tries": tis + "/get/tries", "xcoms": tis + "/get/xcomEntries", "xcom": tis + "/get/xcomEntries/return_value",
		"xcom_text": tis + "/get/xcomEntries/return_value?stringify=true", "import_errors": "/importErrors", "connections": "/connections", "pools": "/pools", "version": "/version",
	} {
		code, body := b.do("GET", path, "")
		if code != 200 {
			t.Errorf("GET %s: %d %s", path, code, body)
			continue
		}
		b.golden(name, body)
	}
}

func TestMissingThingsAreSaidInAirflowsWords(t *testing.T) {
	b := newBench(t)
	b.want("GET", "/dags/nope", "", 404, "{\"detail\":\"The Dag with ID: `nope` was not found\"}")
	b.want("GET", runs+"/nope", "", 404, "{\"detail\":\"The DagRun with dag_id: `etl` and run_id: `nope` was not found\"}")
	b.want("GET", tis+"/nope", "", 404, "{\"detail\":\"The Task Instance with dag_id: `etl`, run_id: `r1` and task_id: `nope` was not found\"}")
	b.want("GET", tis+"/split", "", 404, `{"detail":"Task instance is mapped, add the map_index value to the URL"}`)
	b.want("GET", tis+"/split/7", "", 404, "{\"detail\":\"The Mapped Task Instance with dag_id: `etl`, run_id: `r1`, task_id: `split`, and map_index: `7` was not found\"}")
	b.want("GET", tis+"/get/xcomEntries/nope", "", 404, "{\"detail\":\"XCom entry with key: `nope` not found\"}")
	b.want("GET", "/variables/nope", "", 404, "{\"detail\":\"The Variable with key: `nope` was not found\"}")
	b.want("GET", tis+"/get/logs/0", "", 404, `{"detail":"TaskInstance not found: task get has no try 0"}`)
}

func TestPagesAreLimitedAsInAirflow(t *testing.T) {
	b := newBench(t)
	b.want("GET", runs+"?limit=0", "", 200, `{"dag_runs":[],"total_entries":1,"next_cursor":null,"previous_cursor":null}`)
	b.want("GET", runs+"?limit=100000", "", 200, `{"dag_runs":[{"dag_run_id":"r1"…`)
	b.want("GET", runs+"?offset=1", "", 200, `{"dag_runs":[],"total_entries":1…`)
	b.want("GET", runs+"?limit=-1", "", 422, `{"detail":[{"type":"greater_than_equal","loc":["query","limit"],"msg":"Input should be greater than or equal to 0","input":"-1","ctx":{"ge":0}}]}`)
	b.want("GET", runs+"?limit=x", "", 422, `{"detail":[{"type":"int_parsing","loc":["query","limit"],"msg":"Input should be a valid integer, unable to parse string as an integer","input":"x"}]}`)
	b.want("GET", runs+"?order_by=colour", "", 400, `{"detail":"Ordering with 'colour' is disallowed or the attribute does not exist on the DagRun"}`)
	b.want("GET", tis+"?order_by=task_id", "", 400, `{"detail":"Ordering with 'task_id' is disallowed or the attribute does not exist on the TaskInstance"}`)
	b.want("GET", runs+"?state=odd", "", 422, `{"detail":"Invalid value for state. Valid values are queued, running, success, failed"}`)
	b.want("GET", runs+"?duration_gte=1", "", 501, `{"detail":"The query parameter duration_gte is not served"}`)
	b.want("GET", "/dags/~/dagRuns/~/taskInstances?state=failed&order_by=-start_date", "", 200, `{"task_instances":[{"id":"dce7083e-73bc-5c64-93d8-f75ccbc02200"…`)
	b.want("POST", "/dags/etl/dagRuns/list", "{}", 422, `{"detail":[{"type":"literal_error","loc":["path","dag_id"],"msg":"Input should be '~'","input":"etl","ctx":{"expected":"'~'"}}]}`)
	b.want("POST", "/dags/~/dagRuns/list", `{"states":["failed"],"page_limit":5}`, 200, `{"dag_runs":[{"dag_run_id":"r1"…`)
}

func TestEveryOrderByThatIsOfferedCanBeServed(t *testing.T) {
	b := newBench(t)
	for path, names := range map[string]string{
		"/dags": "dag_id,next_dagrun,last_run_start_date,dag_display_name", runs: "id,run_after,logical_date,start_date,end_date,state,dag_id,run_id,dag_run_id",
		tis: "id,state,start_date,end_date,map_index,try_number,logical_date,run_after,duration", "/variables": "key,id", "/connections": "conn_id,conn_type",
		"/pools": "pool,name", "/importErrors": "filename", "/eventLogs": "when,id", "/dags/etl/dagVersions": "version_number", "/dagTags": "name",
	} {
		for name := range strings.SplitSeq(names, ",") {
			for _, sign := range []string{"", "-"} {
				if code, body := b.do("GET", path+"?order_by="+sign+name, ""); code != 200 {
					t.Errorf("%s ordered by %s%s: %d %s", path, sign, name, code, body)
				}
			}
		}
	}
}

func TestATriggerIsCheckedBeforeTheSchedulerSeesIt(t *testing.T) {
	b := newBench(t)
	b.want("POST", runs, `{}`, 422, `{"detail":[{"type":"missing","loc":["body","logical_date"],"msg":"Field required","input":{}}]}`)
	b.want("POST", runs, `{"logical_date":"2024-02-01T00:00:00"}`, 422, `{"detail":[{"type":"timezone_aware"…`)
	b.want("POST", runs, `{"logical_date":null,"colour":1}`, 422, `{"detail":[{"type":"extra_forbidden","loc":["body","colour"],"msg":"Extra inputs are not permitted","input":1}]}`)
	b.want("POST", runs, `{"logical_date":null,"dag_run_id":"a/b c"}`, 400, `{"detail":"The run_id provided 'a/b c' does not match regex pattern…`)
	b.want("POST", runs, `{"logical_date":null,"conf":{"depth":99}}`, 400, `{"detail":"Invalid input for param depth: 99 is greater than the maximum of 9"}`)
	b.want("POST", runs, `{"logical_date":null,"conf":[]}`, 422, `{"detail":[{"type":"dict_type"…`)
	b.want("POST", runs, `{"logical`, 422, `{"detail":[{"type":"json_invalid"…`)
	b.want("POST", runs, ``, 422, `{"detail":[{"type":"missing","loc":["body"]…`)
	b.want("POST", "/dags/nope/dagRuns", `{"logical_date":null}`, 404, `{"detail":"Dag with dag_id: 'nope' not found"}`)
	if got := b.sched.last(); got != nil {
		t.Errorf("the scheduler was told %v", got)
	}
	b.want("POST", runs, `{"logical_date":"2024-02-01T02:00:00+02:00","dag_run_id":"mine"}`, 200, `{"dag_run_id":"mine","dag_id":"etl","logical_date":"2024-02-01T02:00:00+02:00",…`)
	b.want("GET", runs+"/mine", "", 200, `{"dag_run_id":"mine","dag_id":"etl","logical_date":"2024-02-01T00:00:00Z",…`)
	b.want("POST", runs, `{"logical_date":null,"dag_run_id":"mine"}`, 409, `{"detail":{"reason":"Unique constraint violation",…`)
}

func TestPatchingARunTellsTheScheduler(t *testing.T) {
	b := newBench(t)
	b.want("PATCH", runs+"/r1", `{"state":"success"}`, 200, `{"dag_run_id":"r1"…`)
	if got, ok := b.sched.last().([]string); !ok || strings.Join(got, " ") != "etl r1 success" {
		t.Errorf("the scheduler was told %v", b.sched.last())
	}
	b.want("PATCH", runs+"/r1", `{"state":"running"}`, 422, `{"detail":[{"type":"enum","loc":["body","state"],"msg":"Input should be 'queued', 'success' or 'failed'"…`)
	b.want("PATCH", runs+"/r1?update_mask=colour", `{}`, 400, `{"detail":"'colour' in update_mask…`)
}

func TestMarkingTaskInstances(t *testing.T) {
	b := newBench(t)
	b.want("PATCH", tis+"/get", `{"new_state":"failed"}`, 409, `{"detail":"Task id get is already in failed state"}`)
	b.want("PATCH", tis+"/get", `{"new_state":"running"}`, 422, `{"detail":[{"type":"enum"…`)
	b.want("PATCH", tis+"/split", `{"new_state":"success","include_downstream":true}`, 200, `{"task_instances":[{"id":"00000000-0000-7000-8000-000000000002"…`)
	mark := b.sched.last().(scheduler.MarkRequest)
	if mark.Tasks[0].MapIndex != nil || !mark.IncludeDownstream {
		t.Errorf("a PATCH without index must change all: %+v", mark)
	}
	b.want("PATCH", tis+"/get?update_mask=note", `{"new_state":"success","note":"seen"}`, 200, `{"task_instances":[…`)
	if b.sched.last() != "seen" {
		t.Errorf("the mask must leave the state alone: %v", b.sched.last())
	}
}

func TestClearingPreviewsFailedInstancesUnlessToldOtherwise(t *testing.T) {
	b := newBench(t)
	b.want("POST", "/dags/etl/clearTaskInstances", `{"dag_run_id":"r1","task_ids":["get",["split",1]]}`, 200, `{"task_instances":[{"id":"dce7083e-73bc-5c64-93d8-f75ccbc02200"…`)
	req := b.sched.last().(scheduler.ClearRequest)
	if !req.DryRun || !req.OnlyFailed || len(req.TaskIDs) != 2 || *req.TaskIDs[1].MapIndex != 1 {
		t.Errorf("the scheduler was told %+v", req)
	}
	b.want("POST", "/dags/etl/clearTaskInstances", `{"dag_run_id":"r1","task_ids":[7]}`, 422, `{"detail":[{"type":"string_type","loc":["body","task_ids",0]…`)
}

func TestPausingADAG(t *testing.T) {
	b := newBench(t)
	b.want("PATCH", "/dags/etl", `{"is_paused":true}`, 200, `{"dag_id":"etl","dag_display_name":"etl","is_paused":true…`)
	b.want("GET", "/dags?paused=false", "", 200, `{"dags":[],"total_entries":0}`)
	b.want("PATCH", "/dags?dag_id_pattern=%25", `{"is_paused":false}`, 200, `{"dags":[{"dag_id":"etl","dag_display_name":"etl","is_paused":false…`)
	b.want("PATCH", "/dags/etl?update_mask=tags", `{"is_paused":true}`, 400, "{\"detail\":\"Only `is_paused` field can be updated through the REST API\"}")
}

func TestDAGFilters(t *testing.T) {
	b := newBench(t)
	for query, n := range map[string]string{"tags=ml": "1", "tags=x": "0", "tags=ml&tags=x&tags_match_mode=all": "0", "owners=bo": "1", "owners=cy": "0", "last_dag_run_state=failed": "1",
		"last_dag_run_state=success": "0", "dag_id_pattern=e%25": "1", "dag_display_name_pattern=x%25|ET_": "1"} {
		code, body := b.do("GET", "/dags?"+query, "")
		if code != 200 || !strings.HasSuffix(body, `"total_entries":`+n+`}`) {
			t.Errorf("%s: %d %s", query, code, body)
		}
	}
}

func TestVariablesKeepSecretsToThemselves(t *testing.T) {
	b := newBench(t)
	b.want("POST", "/variables", `{"key":"a/b","value":{"x":1,"password":"pass1"},"description":"d"}`, 201,
		`{"key":"a/b","value":"{\"password\":\"***\",\"x\":1}","description":"d","is_encrypted":false,"team_name":null}`)
	b.want("POST", "/variables", `{"key":"a/b","value":"1"}`, 409, "{\"detail\":\"The Variable with key: `a/b` already exists\"}")
	b.want("PATCH", "/variables/a%2Fb?update_mask=description", `{"key":"a/b","value":"2","description":"e"}`, 200, `{"key":"a/b","value":"{\"password\"…`)
	b.want("POST", "/variables", `{"key":"my_token","value":"s3cret"}`, 201, `{"key":"my_token","value":"***"…`)
	b.want("PATCH", "/variables/my_token", `{"key":"my_token","value":"***","description":"kept"}`, 200, `{"key":"my_token","value":"***","description":"kept"…`)
	if v, err := b.db.Variable(t.Context(), "my_token"); err != nil || v.Value != "s3cret" {
		t.Errorf("the hidden value was overwritten: %q, %v", v.Value, err)
	}
	b.want("DELETE", "/variables/a%2Fb", "", 204, "")
	b.want("DELETE", "/variables/a%2Fb", "", 404, "{\"detail\":\"The Variable with key: `a/b` was not found\"}")
}

func TestPatchingAConnectionKeepsWhatWasHidden(t *testing.T) {
	b := newBench(t)
	b.want("PATCH", "/connections/pg", `{"connection_id":"pg","conn_type":"postgres","password":"***","extra":"{\"api_key\":\"***\",\"ssl\":false}"}`, 200, `{"connection_id":"pg"…`)
	c, err := b.db.Connection(t.Context(), "pg")
	if err != nil || c.Password != "hush" || c.Extra != `{"api_key":"k","ssl":false}` || c.Host != "db" {
		t.Errorf("stored %+v, %v", c, err)
	}
	b.want("POST", "/connections", `{"connection_id":"pg","conn_type":"x"}`, 409, `{"detail":{"reason":"Unique constraint violation"…`)
	b.want("POST", "/connections", `{"connection_id":"a b","conn_type":"x"}`, 422, `{"detail":[{"type":"string_pattern_mismatch"…`)
	b.want("POST", "/connections", `{"connection_id":"","conn_type":"x"}`, 422, `{"detail":[{"type":"string_pattern_mismatch"…`)
	b.want("POST", "/connections/test", `{}`, 403, `{"detail":"Testing connections is disabled."}`)
	b.want("GET", "/config", ``, 403, `{"detail":"Your Airflow administrator…`)
}

func TestAConnectionMayBeNamedAndFilledInInAnyLanguage(t *testing.T) {
	b := newBench(t)
	const shown = `{"connection_id":"jürgen_数据","conn_type":"postgres","description":null,"host":"höst","login":"jürgen","schema":"dätä","port":null,"password":"***"…`
	b.want("POST", "/connections", `{"connection_id":"jürgen_数据","conn_type":"postgres","host":"höst","login":"jürgen","schema":"dätä","password":"pässwort"}`, 201, shown)
	b.want("GET", "/connections/j%C3%BCrgen_%E6%95%B0%E6%8D%AE", "", 200, shown)
	code, body := b.do("GET", "/connections/j%C3%BCrgen_%E6%95%B0%E6%8D%AE?reveal=true", "")
	if code != 200 || !strings.Contains(body, `"password":"pässwort"`) {
		t.Errorf("%d %s", code, body)
	}
	if _, body := b.do("GET", "/connections", ""); strings.Contains(body, "pässwort") {
		t.Errorf("the password is shown: %s", body)
	}
	b.want("DELETE", "/connections/j%C3%BCrgen_%E6%95%B0%E6%8D%AE", "", 204, "")
}

func TestPools(t *testing.T) {
	b := newBench(t)
	b.want("POST", "/pools", `{"name":"gpu","slots":2}`, 201, `{"name":"gpu","slots":2,…`)
	b.want("POST", "/pools", `{"name":"gpu","slots":2}`, 409, `{"detail":{"reason"…`)
	b.want("PATCH", "/pools/gpu?update_mask=slots", `{"slots":3}`, 422, `{"detail":[{"type":"missing","loc":["body","pool"]…`)
	b.want("PATCH", "/pools/gpu?update_mask=slots", `{"slots":3,"pool":"gpu","include_deferred":true}`, 200, `{"name":"gpu","slots":3,"description":null,"include_deferred":false…`)
	b.want("DELETE", "/pools/default_pool", "", 400, `{"detail":"Default Pool can't be deleted"}`)
	b.want("DELETE", "/pools/gpu", "", 204, "")
	b.want("GET", "/pools/gpu", "", 404, "{\"detail\":\"The Pool with name: `gpu` was not found\"}")
}

func TestBulkActionsAnswerForEachEntity(t *testing.T) {
	b := newBench(t)
	b.want("PATCH", "/variables", `{"actions":[{"action":"create","entities":[{"key":"a","value":"1"},{"key":"a","value":"2"}]},
		{"action":"create","action_on_existence":"overwrite","entities":[{"key":"a","value":"3"}]},{"action":"delete","entities":["b","a"]}]}`, 200,
		`{"create":{"success":["a","a"],"errors":[{"error":"The variable with these keys: {'a'} already exist.","status_code":409}]},"update":null,"delete":{"success":["a"],"errors":[{"error":"The variable with these keys: {'b'} were not found.","status_code":404}]}}`)
	b.want("PATCH", "/pools", `{"actions":[{"action":"create","entities":[{"name":"p"}]}]}`, 200, `{"create":{"success":[],"errors":[{"error":"[{\"type\":\"missing\"…`)
	b.want("PATCH", "/connections", `{"actions":[{"action":"explode","entities":[]}]}`, 422, `{"detail":[{"type":"enum"…`)
}

func TestXComsCanBeWritten(t *testing.T) {
	b := newBench(t)
	at := tis + "/get/xcomEntries"
	b.want("POST", at, `{"key":"k/1","value":[1,2]}`, 201, `{"key":"k/1"…`)
	b.want("POST", at, `{"key":"k/1","value":1}`, 409, "{\"detail\":\"The XCom with key: `k/1` with mentioned task instance already exists.\"}")
	b.want("PATCH", at+"/k%2F1", `{"value":"new"}`, 200, `{"key":"k/1"…`)
	if x, err := b.db.XCom(t.Context(), keyGet, "k/1"); err != nil || string(x.Value) != `"new"` {
		t.Errorf("stored %s, %v", x.Value, err)
	}
	b.want("DELETE", at+"/k%2F1", "", 204, "")
	b.want("GET", at+"/return_value?deserialize=true", "", 400, `{"detail":"XCom deserialization is disabled in configuration."}`)
	b.want("GET", runs+"/r1/taskInstances/~/xcomEntries", "", 200, `{"xcom_entries":[{"key":"return_value"…`)
}

func TestAFullDiskIsNotTheClientsFault(t *testing.T) {
	b := newBench(t)
	b.sched.refuse = store.ErrUnavailable
	b.want("PATCH", runs+"/r1", `{"state":"failed"}`, 503, `{"detail":"The database cannot be written now; nothing was lost, try again","ostro":{"reason":"database"}}`)
	b.sched.refuse = scheduler.ErrStopped
	b.want("PATCH", runs+"/r1", `{"state":"failed"}`, 503, `{"detail":"This server is stopping and does nothing any more; ask again"}`)
	b.sched.refuse = scheduler.ErrConflict
	b.want("PATCH", runs+"/r1", `{"state":"failed"}`, 409, `{"detail":"conflict"}`)
}

func TestTheEventLogNamesTheActor(t *testing.T) {
	b := newBench(t)
	b.want("PATCH", "/dags/etl", `{"is_paused":true}`, 200, "{…")
	code, body := b.do("GET", "/eventLogs?owner=token:local&order_by=-id", "")
	if code != 200 || !strings.Contains(body, `"event":"dag.paused"`) || !strings.HasSuffix(body, `"total_entries":1}`) {
		t.Errorf("%d %s", code, body)
	}
}
