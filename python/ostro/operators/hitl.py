"""Operators that ask a person. They can be declared; running one says that nobody can be asked yet."""

from ..baseoperator import BaseOperator
from ..exceptions import AirflowException
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
        self.notifiers = notifiers if isinstance(notifiers, (list, tuple)) else [notifiers] if notifiers else []
        self.assigned_users = assigned_users if isinstance(assigned_users, list) or assigned_users is None else [
            assigned_users]
        self.response_timeout = response_timeout
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

    def execute(self, context):
        raise AirflowException("%s (task %r) cannot run here: asking a person is not built; use a DAG of its own that "
                               "somebody triggers with params" % (self.operator_name, self.task_id))

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


class HITLBranchOperator(HITLOperator):
    """Asks which tasks to follow."""

    def __init__(self, *, options_mapping=None, **kwargs):
        super().__init__(**kwargs)
        self.options_mapping = dict(options_mapping or {})
        for word in self.options_mapping:
            if word not in self.options:
                raise ValueError("options_mapping of task %r has %r, which is not among its options"
                                 % (self.task_id, word))


class HITLEntryOperator(HITLOperator):
    """Asks for the values of params."""

    OK = "OK"

    def __init__(self, **kwargs):
        if "options" not in kwargs:
            kwargs["options"] = [self.OK]
            kwargs.setdefault("defaults", [self.OK])
        super().__init__(**kwargs)
