"""Operators that ask a person and wait, without a process, for the answer."""

import datetime

from ..baseoperator import BaseOperator
from ..exceptions import (
    HITLRejectException,
    HITLTimeoutError,
    HITLTriggerEventError,
    TaskAwaitingInput,
)
from ..params import ParamsDict
from .skipping import SkipMixin


class HITLOperator(BaseOperator, SkipMixin):
    """Shows a subject and options and waits for somebody's choice."""

    template_fields = ("subject", "body")
    shown_module = "airflow.providers.standard.operators.hitl"

    def __init__(self, *, subject, options, body=None, defaults=None, multiple=False, params=None, notifiers=None,
                 assigned_users=None, response_timeout=None, **kwargs):
        super().__init__(params=params, **kwargs)
        self.subject, self.body, self.options, self.multiple = subject, body, list(options), multiple
        self.defaults = [defaults] if isinstance(defaults, str) else defaults
        self.notifiers = list(notifiers) if isinstance(notifiers, (list, tuple)) else [notifiers] if notifiers else []
        self.assigned_users = [assigned_users] if isinstance(assigned_users, dict) else assigned_users
        if self.execution_timeout and response_timeout is None:
            # It was meant for the wait; it must not end the process that asks.
            response_timeout, self.execution_timeout = self.execution_timeout, None
        self.response_timeout = response_timeout
        self.form = ParamsDict(params or {})  # what is to be filled in, without the DAG's params
        self.hitl_summary_extra = {}
        self._check_options()

    def _check_options(self):
        if not self.options:
            raise ValueError("options of task %r must not be empty" % self.task_id)
        if len(set(self.options)) != len(self.options):
            raise ValueError("options of task %r has an option twice" % self.task_id)
        for word in self.defaults or ():
            if word not in self.options:
                raise ValueError("defaults of task %r has %r, which is not among its options %s"
                                 % (self.task_id, word, self.options))
        if self.defaults and len(self.defaults) > 1 and not self.multiple:
            raise ValueError("task %r takes one option (multiple=False), but defaults has several" % self.task_id)

        if "_options" in self.form:
            raise ValueError('"_options" is not allowed in params')

    @property
    def serialized_params(self):
        return {name: param.dump() for name, param in self.form.items()}

    @property
    def hitl_summary(self):
        """What is asked, for whoever watches."""
        return dict({"subject": self.subject, "body": self.body, "options": self.options, "defaults": self.defaults,
                     "multiple": self.multiple, "assigned_users": self.assigned_users,
                     "serialized_params": self.serialized_params or None}, **self.hitl_summary_extra)

    def execute(self, context):
        until = None if self.response_timeout is None else (
            datetime.datetime.now(datetime.timezone.utc) + self.response_timeout).isoformat()
        self.hitl_summary_extra["timeout_datetime"] = until
        self.log.info("Waiting for response")
        for notifier in self.notifiers:
            notifier(context)
        form = {"subject": self.subject, "body": self.body or "", "options": self.options, "defaults": self.defaults or [],
                "multiple": self.multiple, "params": self.serialized_params,
                "assigned_users": [{"id": str(one["id"]), "name": str(one.get("name", one["id"]))}
                                   for one in self.assigned_users or ()]}
        raise TaskAwaitingInput(method_name="execute_complete", timeout=self.response_timeout, form=form)

    def execute_complete(self, context, event):
        """Somebody has answered, or the time is over."""
        if "error" in event:
            self.hitl_summary_extra["error_type"] = event["error_type"]
            self.process_trigger_event_error(event)
        chosen, filled = event["chosen_options"], event["params_input"] or {}
        self.validate_chosen_options(chosen)
        self.validate_params_input(filled)
        result = {"chosen_options": chosen, "params_input": filled, "responded_at": event["responded_at"],
                  "responded_by_user": event["responded_by_user"]}
        self.hitl_summary_extra.update(result, responded_at=event["responded_at"].isoformat())
        return result

    def process_trigger_event_error(self, event):
        if event["error_type"] == "timeout":
            raise HITLTimeoutError(event["error"])
        raise HITLTriggerEventError(event["error"])

    def validate_chosen_options(self, chosen_options):
        unknown = set(chosen_options) - set(self.options)
        if unknown:
            raise ValueError("Responses %s not in %s" % (unknown, self.options))

    def validate_params_input(self, params_input):
        if self.form and params_input and set(self.form) ^ set(params_input):
            raise ValueError("params_input %s does not match params %s" % (params_input, list(self.form)))
        for name, value in params_input.items():
            self.form[name] = value
            self.params[name] = value

    @staticmethod
    def generate_link_to_ui_from_context(*, context, base_url=None, options=None, params_inputs=None):
        """Return the address of the run's page."""
        ti = context["ti"]
        return "%s/dags/%s/runs/%s" % ((base_url or "").rstrip("/"), ti.dag_id, ti.run_id)


class ApprovalOperator(HITLOperator):
    """Asks for Approve or Reject."""

    APPROVE, REJECT = "Approve", "Reject"

    def __init__(self, *, ignore_downstream_trigger_rules=False, fail_on_reject=False, **kwargs):
        for word in ("options", "multiple"):
            if word in kwargs:
                raise ValueError("ApprovalOperator takes no %s=" % word)
        super().__init__(options=[self.APPROVE, self.REJECT], **kwargs)
        self.ignore_downstream_trigger_rules, self.fail_on_reject = ignore_downstream_trigger_rules, fail_on_reject

    def execute_complete(self, context, event):
        result = super().execute_complete(context=context, event=event)
        approved = result["chosen_options"][0] == self.APPROVE
        self.hitl_summary_extra["approved"] = approved
        if approved:
            self.log.info("Approved. Proceeding with downstream tasks...")
            return result
        if self.fail_on_reject:
            raise HITLRejectException('Receive "Reject"')
        task = context["task"]
        tasks = (task.get_flat_relatives(upstream=False) if self.ignore_downstream_trigger_rules
                 else task.get_direct_relatives(upstream=False))
        self.log.info("Skipping downstream tasks")
        self.skip(ti=context["ti"], tasks=[one for one in tasks if not one.is_teardown])
        return result


class HITLBranchOperator(HITLOperator):
    """Asks which tasks to follow."""

    def __init__(self, *, options_mapping=None, **kwargs):
        super().__init__(**kwargs)
        self.options_mapping = dict(options_mapping or {})
        for word in self.options_mapping:
            if word not in self.options:
                raise ValueError("options_mapping of task %r has %r, which is not among its options"
                                 % (self.task_id, word))
            if not isinstance(self.options_mapping[word], str):
                raise ValueError("options_mapping of task %r must map to task ids; %r has %r"
                                 % (self.task_id, word, self.options_mapping[word]))

    def execute_complete(self, context, event):
        result = super().execute_complete(context=context, event=event)
        follow = [self.options_mapping.get(one, one) for one in result["chosen_options"]]
        self.hitl_summary_extra["branches_to_execute"] = follow
        self.skip_all_except(context["ti"], follow)
        return follow


class HITLEntryOperator(HITLOperator):
    """Asks for the values of params."""

    OK = "OK"

    def __init__(self, **kwargs):
        if "options" not in kwargs:
            kwargs["options"] = [self.OK]
            kwargs.setdefault("defaults", [self.OK])
        super().__init__(**kwargs)
