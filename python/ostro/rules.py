"""Trigger rules, weight rules and states, as the string enums authors import."""

from enum import Enum

from .exceptions import AirflowException
from .settings import nearest, warn_once


class _Words(str, Enum):
    def __str__(self):
        return self.value

    @classmethod
    def is_valid(cls, value):
        return value in cls.all_values()

    @classmethod
    def all_values(cls):
        return {member.value for member in cls}


class TriggerRule(_Words):
    """Which upstream states let a task start."""

    ALL_SUCCESS = "all_success"
    ALL_FAILED = "all_failed"
    ALL_DONE = "all_done"
    ALL_DONE_MIN_ONE_SUCCESS = "all_done_min_one_success"
    ALL_DONE_SETUP_SUCCESS = "all_done_setup_success"
    ONE_SUCCESS = "one_success"
    ONE_FAILED = "one_failed"
    ONE_DONE = "one_done"
    NONE_FAILED = "none_failed"
    NONE_SKIPPED = "none_skipped"
    ALWAYS = "always"
    NONE_FAILED_MIN_ONE_SUCCESS = "none_failed_min_one_success"
    ALL_SKIPPED = "all_skipped"

    @classmethod
    def all_triggers(cls):
        return cls.all_values()


# Airflow 2 names that mean a rule of today.
_OLD_RULES = {"dummy": "always", "none_failed_or_skipped": "none_failed_min_one_success"}


def check_trigger_rule(value):
    """Return the TriggerRule for a word or a member; refuse others, naming the known ones."""
    word = str(getattr(value, "value", value))
    try:
        return TriggerRule(_OLD_RULES.get(word, word))
    except ValueError:
        raise AirflowException("the trigger rule must be one of %s, not %r%s"
                               % (", ".join(sorted(TriggerRule.all_values())), value,
                                  nearest(word, TriggerRule.all_values()))) from None


class WeightRule(_Words):
    """How priority_weight adds up along the graph."""

    DOWNSTREAM = "downstream"
    UPSTREAM = "upstream"
    ABSOLUTE = "absolute"

    @classmethod
    def all_weight_rules(cls):
        return cls.all_values()


def check_weight_rule(value):
    """Return the WeightRule for a word or a member; a strategy object means downstream, with a warning."""
    word = str(getattr(value, "value", value))
    if callable(getattr(value, "get_weight", None)) or "." in word:
        name = value if isinstance(value, str) else getattr(value, "__name__", type(value).__name__)
        warn_once("weight_rule " + name,
                  "weight_rule=%s has no effect: strategies of one's own are not computed, downstream is used" % name)
        return WeightRule.DOWNSTREAM
    try:
        return WeightRule(word)
    except ValueError:
        raise AirflowException("the weight rule must be downstream, upstream or absolute, not %r%s"
                               % (value, nearest(word, WeightRule.all_values()))) from None


class TaskInstanceState(_Words):
    """The states of a task instance; None is "not yet looked at"."""

    REMOVED = "removed"
    SCHEDULED = "scheduled"
    QUEUED = "queued"
    RUNNING = "running"
    SUCCESS = "success"
    RESTARTING = "restarting"
    FAILED = "failed"
    UP_FOR_RETRY = "up_for_retry"
    UP_FOR_RESCHEDULE = "up_for_reschedule"
    UPSTREAM_FAILED = "upstream_failed"
    SKIPPED = "skipped"
    DEFERRED = "deferred"
    AWAITING_INPUT = "awaiting_input"


class DagRunState(_Words):
    """The states of a DAG run."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCESS = "success"
    FAILED = "failed"


class DagRunType(_Words):
    """What brought a DAG run about."""

    BACKFILL_JOB = "backfill"
    SCHEDULED = "scheduled"
    MANUAL = "manual"
    ASSET_TRIGGERED = "asset_triggered"
    ASSET_MATERIALIZATION = "asset_materialization"


class State:
    """All states under one name, as Airflow 2 had them."""

    SUCCESS, RUNNING, FAILED, QUEUED = (TaskInstanceState.SUCCESS, TaskInstanceState.RUNNING, TaskInstanceState.FAILED,
                                        TaskInstanceState.QUEUED)
    NONE = None
    REMOVED, SCHEDULED, RESTARTING = (TaskInstanceState.REMOVED, TaskInstanceState.SCHEDULED,
                                      TaskInstanceState.RESTARTING)
    UP_FOR_RETRY, UP_FOR_RESCHEDULE = TaskInstanceState.UP_FOR_RETRY, TaskInstanceState.UP_FOR_RESCHEDULE
    UPSTREAM_FAILED, SKIPPED, DEFERRED = (TaskInstanceState.UPSTREAM_FAILED, TaskInstanceState.SKIPPED,
                                          TaskInstanceState.DEFERRED)
    finished = frozenset([SUCCESS, FAILED, SKIPPED, UPSTREAM_FAILED, REMOVED])
    unfinished = frozenset([None, SCHEDULED, QUEUED, RUNNING, RESTARTING, UP_FOR_RETRY, UP_FOR_RESCHEDULE, DEFERRED])
    failed_states = frozenset([FAILED, UPSTREAM_FAILED])
    success_states = frozenset([SUCCESS, SKIPPED])
    dag_states = (QUEUED, SUCCESS, RUNNING, FAILED)
    task_states = tuple(sorted(TaskInstanceState, key=str)) + (None,)
