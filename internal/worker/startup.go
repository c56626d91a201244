package worker

import (
	"maps"
	"strconv"
	"time"

	"ostro.dev/ostro/internal/executor"
	"ostro.dev/ostro/internal/workerapi"
	"ostro.dev/ostro/protocol"
)

// complete fills in what only the worker knows: where the task runs, its environment, how pods run here.
func complete(o executor.Attempt, s workerapi.Settings, hostname, home string) protocol.StartupDetails {
	d := o.Startup
	d.Type = "StartupDetails"
	if d.Kind == "" {
		d.Kind = protocol.KindTask
	}
	if d.TI.AttemptID == "" {
		d.TI.AttemptID = o.ID
	}
	d.TI.Hostname = hostname
	d.Scratch = scratchPath(home, o.ID)
	if d.StartDate.IsZero() {
		d.StartDate = time.Now()
	}
	if d.Pods == nil {
		d.Pods = s.Pods
	}
	if d.Compat == "" {
		d.Compat = o.Compat
	}
	if d.ExecutionTimeout == 0 {
		d.ExecutionTimeout = o.ExecutionTimeout.Seconds()
	}
	env := map[string]string{}
	maps.Copy(env, s.Env)
	maps.Copy(env, contextEnv(d))
	env["OSTRO_HOME"] = home
	env["OSTRO_TOKEN"] = o.Token
	env["OSTRO_ATTEMPT_ID"] = o.ID
	env["OSTRO_DAG_ID"] = d.TI.DAGID
	env["OSTRO_RUN_ID"] = d.TI.RunID
	env["OSTRO_TASK_ID"] = d.TI.TaskID
	env["OSTRO_MAP_INDEX"] = strconv.Itoa(d.TI.MapIndex)
	env["OSTRO_TRY_NUMBER"] = strconv.Itoa(d.TI.TryNumber)
	maps.Copy(env, d.Env)
	d.Env = env
	return d
}

// contextEnv returns the AIRFLOW_CTX_… variables that Airflow exports to a task and its child processes.
func contextEnv(d protocol.StartupDetails) map[string]string {
	env := map[string]string{
		"AIRFLOW_CTX_DAG_ID":     d.TI.DAGID,
		"AIRFLOW_CTX_TASK_ID":    d.TI.TaskID,
		"AIRFLOW_CTX_DAG_RUN_ID": d.TI.RunID,
		"AIRFLOW_CTX_TRY_NUMBER": strconv.Itoa(d.TI.TryNumber),
	}
	if at := d.Context.DagRun.LogicalDate; at != nil {
		env["AIRFLOW_CTX_LOGICAL_DATE"] = isoformat(*at)
		env["AIRFLOW_CTX_EXECUTION_DATE"] = isoformat(*at)
	}
	return env
}

// isoformat writes a time as Python's datetime.isoformat does: 2024-01-01T00:00:00+00:00.
func isoformat(t time.Time) string {
	if t.Nanosecond()/1000 == 0 {
		return t.Format("2006-01-02T15:04:05-07:00")
	}
	return t.Format("2006-01-02T15:04:05.000000-07:00")
}
