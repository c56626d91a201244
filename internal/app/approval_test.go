package app_test

import (
	"net/http"
	"strings"
	"testing"
)

const askingDAGs = `
from datetime import datetime, timedelta

from airflow import DAG
from airflow.operators.empty import EmptyOperator
from airflow.providers.standard.operators.hitl import (
    ApprovalOperator,
    HITLBranchOperator,
    HITLEntryOperator,
    HITLOperator,
)
from airflow.sdk import Param

with DAG("asks", schedule=None, start_date=datetime(2024, 1, 1)):
    approve = ApprovalOperator(task_id="approve", subject="Release {{ run_id }}?", body="Have a look.",
                               assigned_users={"id": "ana", "name": "Ana"})
    reject = ApprovalOperator(task_id="reject", subject="And this?")
    branch = HITLBranchOperator(task_id="branch", subject="Where to?", options=["Left", "Right"],
                                options_mapping={"Left": "left", "Right": "right"})
    entry = HITLEntryOperator(task_id="entry", subject="Which?", params={"rate": Param(0.5, type="number"), "who": Param(type="string")})
    HITLOperator(task_id="late", subject="Nobody there?", options=["a", "b"], defaults=["b"], response_timeout=timedelta(seconds=0.2))
    HITLOperator(task_id="never", subject="Nobody?", options=["a"], response_timeout=timedelta(seconds=0.2))
    approve >> EmptyOperator(task_id="released")
    reject >> EmptyOperator(task_id="dropped")
    branch >> [EmptyOperator(task_id="left"), EmptyOperator(task_id="right")]
`

func TestPeopleAnswerWhatTasksAsk(t *testing.T) {
	cfg := newConfig(t)
	writeDAG(t, cfg, "asks.py", askingDAGs)
	s := start(t, cfg)
	s.trigger("asks", "r1")
	for _, id := range []string{"approve", "reject", "branch", "entry"} {
		s.task(t, "asks", "r1", id, "awaiting_input")
	}
	s.task(t, "asks", "r1", "late", "success")
	if body := s.task(t, "asks", "r1", "never", "failed"); !strings.Contains(body, "HITLTimeoutError") {
		t.Error(body)
	}
	const run = "/api/v2/dags/asks/dagRuns/r1"
	_, body := s.call("GET", run+"/hitlDetails?response_received=false&state=awaiting_input", "")
	for _, want := range []string{`"subject":"Release r1?"`, `"total_entries":4`, `"assigned_users":[{"id":"ana","name":"Ana"}]`, `"schema":{"type":"number"}`} {
		if !strings.Contains(body, want) {
			t.Errorf("the list has not %s: %s", want, body)
		}
	}
	answer := func(task, text string, want int) string {
		t.Helper()
		code, body := s.call("PATCH", run+"/taskInstances/"+task+"/-1/hitlDetails", text)
		if code != want {
			t.Errorf("%s answered %s: %d %s", task, text, code, body)
		}
		return body
	}
	if body := answer("approve", `{"chosen_options":["Approve"]}`, http.StatusForbidden); !strings.Contains(body, `(id=token:local) is not a respondent for the task`) {
		t.Error(body)
	}
	s.user = "bob"
	if body := answer("approve", `{"chosen_options":["Approve"]}`, http.StatusForbidden); !strings.Contains(body, `User=bob (id=bob) is not a respondent for the task; it asks \"ana\"`) {
		t.Error(body)
	}
	s.task(t, "asks", "r1", "approve", "awaiting_input")
	s.user = "ana"
	answer("approve", `{"chosen_options":["Perhaps"]}`, http.StatusBadRequest)
	answer("approve", `{"chosen_options":["Approve","Reject"]}`, http.StatusBadRequest)
	answer("released", `{"chosen_options":["Approve"]}`, http.StatusNotFound)
	if body := answer("approve", `{"chosen_options":["Approve"]}`, http.StatusOK); !strings.Contains(body, `"responded_by":{"id":"ana","name":"ana"}`) {
		t.Error(body)
	}
	s.user = ""
	answer("approve", `{"chosen_options":["Reject"]}`, http.StatusConflict)
	answer("reject", `{"chosen_options":["Reject"]}`, http.StatusOK)
	answer("branch", `{"chosen_options":["Right"]}`, http.StatusOK)
	answer("entry", `{"chosen_options":["OK"]}`, http.StatusBadRequest)
	answer("entry", `{"chosen_options":["OK"],"params_input":{"who":"me","else":1}}`, http.StatusBadRequest)
	answer("entry", `{"chosen_options":["OK"],"params_input":{"who":"me"}}`, http.StatusOK)
	s.wait("asks", "r1", "failed") // by "never"
	for id, want := range map[string]string{"approve": "success", "released": "success", "reject": "success", "dropped": "skipped",
		"branch": "success", "left": "skipped", "right": "success", "entry": "success", "late": "success"} {
		s.task(t, "asks", "r1", id, want)
	}
	got := s.xcom("asks", "r1", "entry", "return_value")
	if !strings.Contains(got, "rate") || !strings.Contains(got, "0.5") || !strings.Contains(got, "me") {
		t.Error(got)
	}
	_, body = s.call("GET", run+"/taskInstances/late/-1/hitlDetails", "")
	if !strings.Contains(body, `"chosen_options":["b"]`) || !strings.Contains(body, `"responded_by_user":null`) {
		t.Error(body)
	}
}
