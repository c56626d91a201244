"""EmptyOperator, LatestOnlyOperator and TriggerDagRunOperator."""

import time

from .. import dates, live
from ..baseoperator import BaseOperator
from ..exceptions import AirflowException, AirflowSkipException, CommsError
from ..params import NOTSET
from .python import BaseBranchOperator


class EmptyOperator(BaseOperator):
    """Does nothing; it stands for a point in the graph."""

    ui_color = "#e8f7e4"
    inherits_from_empty_operator = True
    shown_module = "airflow.providers.standard.operators.empty"
    work_kind = "empty"

    def execute(self, context):
        """Nothing."""

    execute.empty = True


class DummyOperator(EmptyOperator):
    """Airflow 1's name for EmptyOperator."""


class SmoothOperator(BaseOperator):
    """Sings; a joke of Airflow's that some tutorials use."""

    ui_color = "#e8f7e4"
    shown_module = "airflow.providers.standard.operators.smooth"

    def execute(self, context):
        self.log.info("Enjoy Sade - Smooth Operator: https://www.youtube.com/watch?v=4TYv2PhG89A")


class LatestOnlyOperator(BaseBranchOperator):
    """Skips what is directly downstream unless this is the newest run; a run by hand always goes on."""

    ui_color = "#e9ffdb"
    shown_module = "airflow.providers.standard.operators.latest_only"

    def choose_branch(self, context):
        below = sorted(self.downstream_task_ids)
        if str(context["dag_run"].run_type) == "manual":
            self.log.info("Externally triggered DagRun: allowing execution to proceed.")
            return below
        following = context["ti"].startup_context.get("next_data_interval_end")
        if following is not None and dates.now() > dates.plain(following):
            self.log.info("Not latest execution, skipping downstream.")
            return []
        self.log.info("Latest, allowing execution to proceed.")
        return below


class TriggerDagRunOperator(BaseOperator):
    """Triggers a run of another DAG and, if asked, waits for its end."""

    template_fields = ("trigger_dag_id", "trigger_run_id", "logical_date", "conf", "wait_for_completion",
                       "skip_when_already_exists")
    template_fields_renderers = {"conf": "py"}
    ui_color = "#ffefeb"
    shown_module = "airflow.providers.standard.operators.trigger_dagrun"

    def __init__(self, *, trigger_dag_id, trigger_run_id=None, conf=None, logical_date=NOTSET, execution_date=NOTSET,
                 reset_dag_run=False, wait_for_completion=False, poke_interval=60, allowed_states=None,
                 failed_states=None, skip_when_already_exists=False, fail_when_dag_is_paused=False, note=None,
                 deferrable=None, **kwargs):
        super().__init__(**kwargs)
        self.trigger_dag_id, self.trigger_run_id, self.conf = trigger_dag_id, trigger_run_id, conf
        # Without a date the run is for now; None, in Airflow 3's spelling, is a run without a date.
        self.logical_date = logical_date
        if logical_date is NOTSET and execution_date is not None:
            self.logical_date = execution_date
        self.reset_dag_run, self.wait_for_completion, self.poke_interval = (reset_dag_run, wait_for_completion,
                                                                            poke_interval)
        self.allowed_states = [str(getattr(one, "value", one)) for one in allowed_states or ["success"]]
        self.failed_states = [str(getattr(one, "value", one)) for one in
                              (["failed"] if failed_states is None else failed_states)]
        self.skip_when_already_exists, self.fail_when_dag_is_paused = skip_when_already_exists, fail_when_dag_is_paused
        from ..sensors import _deferrable

        self.note, self.deferrable = note, _deferrable(deferrable)

    def execute(self, context):
        from ..xcom import check_json

        conf = self.conf or {}
        if isinstance(conf, str):
            conf = _json(conf, self.task_id)
        fault = check_json(conf)
        if fault:
            raise AirflowException("conf of TriggerDagRunOperator (task %r) must be JSON: %s" % (self.task_id, fault))
        ask = {"type": "TriggerDagRun", "dag_id": self.trigger_dag_id, "conf": conf}
        if self.trigger_run_id:
            ask["run_id"] = str(self.trigger_run_id)
        if self.logical_date is NOTSET:
            ask["logical_date"] = dates.wire(dates.now())
        elif self.logical_date:
            ask["logical_date"] = dates.wire(self.logical_date)
        if self.reset_dag_run:
            ask["reset_dag_run"] = True
        if self.note:
            ask["note"] = self.note
        if self.fail_when_dag_is_paused and live.request({"type": "GetDag", "dag_id": self.trigger_dag_id}).get(
                "is_paused"):
            raise AirflowException("DAG %s is paused" % self.trigger_dag_id)
        run_id = self._trigger(ask, context)
        context["ti"].add_xcom("trigger_run_id", run_id)
        context["ti"].add_xcom("_link_TriggerDagRunLink", "/dags/%s/runs/%s" % (self.trigger_dag_id, run_id))
        self.log.info("Triggered DAG %s, run %s", self.trigger_dag_id, run_id)
        if self.wait_for_completion:
            if self.deferrable:
                self.defer(trigger=self._end_of(run_id), method_name="execute_complete")
            self._wait(run_id)

    def _end_of(self, run_id):
        from ..triggers import DagStateTrigger

        return DagStateTrigger(dag_id=self.trigger_dag_id, states=self.allowed_states + self.failed_states,
                               run_ids=[run_id], poll_interval=self.poke_interval)

    def execute_complete(self, context, event):
        """The run has ended: see how."""
        _, data = event
        for run_id in data["run_ids"]:
            self._judge(run_id, data.get(run_id))

    def _judge(self, run_id, state):
        """Say whether the run has ended well; raise when it has not."""
        if state in self.failed_states:
            raise AirflowException("%s failed with failed states %s for run_ids %s" % (
                self.trigger_dag_id, self.failed_states, [run_id]))
        if state in self.allowed_states:
            self.log.info("%s finished with allowed state %s for run_id %s", self.trigger_dag_id, state, run_id)
            return True
        return False

    def _trigger(self, ask, context, more=5):
        try:
            return live.request(ask).get("run_id") or ask.get("run_id")
        except CommsError as fault:
            if fault.code == "DAGRUN_ALREADY_EXISTS" and self.logical_date is NOTSET and not self.trigger_run_id and more:
                # Another trigger was as quick, to the microsecond; the next one has another time.
                return self._trigger(dict(ask, logical_date=dates.wire(dates.now())), context, more - 1)
            if fault.code == "DAGRUN_ALREADY_EXISTS" and self.skip_when_already_exists:
                raise AirflowSkipException("Skipping due to skip_when_already_exists is set to True and DagRun "
                                           "already exists: %s" % fault) from None
            if fault.code == "NOT_FOUND":
                raise AirflowException("there is no DAG %r to trigger" % self.trigger_dag_id) from None
            raise

    def _wait(self, run_id):
        """Keep this process until the run has ended; the server says when."""
        from ..triggers import await_runs

        while True:
            self.log.info("Waiting for %s on %s to become allowed state %s ...", self.trigger_dag_id, run_id,
                          self.allowed_states)
            answer = live.request({"type": "GetDagRunState", "dag_id": self.trigger_dag_id, "run_id": run_id})
            if self._judge(run_id, answer.get("state")):
                return
            try:
                await_runs(self._end_of(run_id), self.poke_interval)
            except CommsError as fault:
                if fault.code != "NOT_SUPPORTED":
                    raise
                time.sleep(self.poke_interval)


def _json(text, task_id):
    """Return the conf that a text is, as a template may make one."""
    import json

    try:
        return json.loads(text)
    except ValueError as fault:
        raise AirflowException("conf of TriggerDagRunOperator (task %r) must be JSON: %s" % (task_id, fault)) from None
