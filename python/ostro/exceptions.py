"""The exceptions a DAG author can raise or catch, and the mapping from a refusal on the wire to one of them.

The names and their meaning are Airflow's; the classes are importable as ``airflow.exceptions`` and ``airflow.sdk.exceptions``.
"""


class AirflowException(Exception):
    """The root of everything this runtime raises on purpose."""

    status_code = 500


class AirflowBadRequest(AirflowException):
    """The server did not understand a request."""

    status_code = 400


class AirflowNotFoundException(AirflowException):
    """What was asked for (a connection, a DAG, a run) does not exist."""

    status_code = 404


class AirflowConfigException(AirflowException):
    """A configuration value is missing or makes no sense."""


class AirflowFailException(AirflowException):
    """Fail the task now and do not retry it."""


class AirflowSkipException(AirflowException):
    """Mark the task as skipped."""


class AirflowTaskTimeout(BaseException):
    """The task ran longer than its execution_timeout. Not an Exception, so that ``except Exception`` lets it pass."""


class AirflowTaskTerminated(BaseException):
    """The task was asked to end (SIGTERM). Not an Exception, for the same reason."""


class AirflowSensorTimeout(AirflowException):
    """A sensor waited longer than its timeout."""


class AirflowRescheduleException(AirflowException):
    """End this attempt and look again at ``reschedule_date``."""

    def __init__(self, reschedule_date):
        super().__init__("reschedule at %s" % (reschedule_date,))
        self.reschedule_date = reschedule_date


class TaskDeferred(BaseException):
    """End this attempt until ``trigger`` fires, then go on with ``method_name``."""

    def __init__(self, *, trigger, method_name, kwargs=None, timeout=None):
        super().__init__("deferred to %s" % (type(trigger).__name__,))
        self.trigger, self.method_name, self.kwargs, self.timeout = trigger, method_name, kwargs, timeout


class TaskAwaitingInput(BaseException):
    """End this attempt until a person has answered, then go on with ``method_name``."""

    def __init__(self, *, method_name="execute_complete", kwargs=None, timeout=None, form=None):
        super().__init__("awaiting input")
        self.method_name, self.kwargs, self.timeout, self.form = method_name, kwargs, timeout, form


class HITLTriggerEventError(AirflowException):
    """Asking a person went wrong."""


class HITLTimeoutError(HITLTriggerEventError):
    """Nobody has answered in time."""


class HITLRejectException(AirflowException):
    """Somebody has rejected."""


class TaskDeferralError(AirflowException):
    """The trigger of a deferred task failed."""


class TaskDeferralTimeout(AirflowException):
    """The trigger of a deferred task took too long."""


class DownstreamTasksSkipped(AirflowException):
    """Succeed, and skip the given downstream tasks."""

    def __init__(self, *, tasks):
        super().__init__("skip downstream tasks")
        self.tasks = tasks


class DagRunTriggerException(AirflowException):
    """Kept for its name; triggering a run is an ordinary request here."""


class AirflowClusterPolicyViolation(AirflowException):
    """A cluster policy refused a DAG or a task."""


class AirflowClusterPolicySkipDag(AirflowException):
    """A cluster policy asked for a DAG to be left out."""


class AirflowClusterPolicyError(AirflowException):
    """A cluster policy itself failed."""


class AirflowTimetableInvalid(AirflowException):
    """A timetable's arguments make no sense."""


class AirflowDagCycleException(AirflowException):
    """The tasks depend on each other in a circle."""


class AirflowDagDuplicatedIdException(AirflowException):
    """Two DAGs of one file have the same id."""


class AirflowDagInconsistent(AirflowException):
    """A DAG's arguments contradict each other."""


class AirflowInternalRuntimeError(BaseException):
    """Something that must not happen happened in the runtime itself."""


class AirflowRuntimeError(Exception):
    """The control plane refused a request; ``error`` carries its code and message."""

    def __init__(self, error):
        self.error = error
        super().__init__(str(error))


class AirflowOptionalProviderFeatureException(AirflowException):
    """A feature of a provider needs a package that is not installed."""


class AirflowInactiveAssetInInletOrOutletException(AirflowException):
    """An asset a task reads or writes is not active."""


class XComNotFound(AirflowException):
    """An upstream task pushed no such value."""

    def __init__(self, dag_id, task_id, key):
        super().__init__()
        self.dag_id, self.task_id, self.key = dag_id, task_id, key

    def __str__(self):
        return "XComArg result from %s at %s with key=%r is not found" % (self.task_id, self.dag_id, self.key)


class XComForMappingNotPushed(AirflowException):
    """A task that others are mapped over pushed nothing."""

    def __init__(self, task_id=""):
        super().__init__("task %r returned nothing, and other tasks are mapped over what it returns" % task_id)


class UnmappableXComTypePushed(AirflowException):
    """A task that others are mapped over pushed neither a list nor a dict."""

    def __init__(self, task_id="", value=None):
        super().__init__("task %r returned %s, and other tasks are mapped over what it returns: it must be a list or a "
                         "dict" % (task_id, type(value).__name__))


class UnmappableXComLengthPushed(AirflowException):
    """A task that others are mapped over pushed more elements than max_map_length."""


class FailFastDagInvalidTriggerRule(AirflowException):
    """A task of a DAG with fail_fast has another trigger rule than all_success."""


class DuplicateTaskIdFound(AirflowException):
    """Two tasks of one DAG have the same id."""


class TaskAlreadyInTaskGroup(AirflowException):
    """A task cannot be in two task groups."""

    def __init__(self, task_id, existing_group_id, new_group_id):
        super().__init__("cannot add %r to the task group %r: it is already in %r"
                         % (task_id, new_group_id, existing_group_id or "root"))


class TaskNotFound(AirflowNotFoundException):
    """The DAG has no such task."""


class DagNotFound(AirflowNotFoundException):
    """There is no such DAG."""


class DagRunNotFound(AirflowNotFoundException):
    """There is no such DAG run."""


class DagRunAlreadyExists(AirflowBadRequest):
    """A DAG run with this id or logical date exists already."""


class ParamValidationError(AirflowException):
    """A run parameter does not fit its schema."""


class SerializationError(AirflowException):
    """A value cannot be written as JSON."""


class RemovedInAirflow3Warning(DeprecationWarning):
    """A name of Airflow 2 was used."""

    deprecated_provider_since = None
    deprecated_since = None


class RemovedInAirflow4Warning(DeprecationWarning):
    """A name of Airflow 3 was used that is to go."""

    deprecated_since = None


class AirflowProviderDeprecationWarning(DeprecationWarning):
    """A provider's deprecated name was used."""


class ConnectionNotUnique(AirflowException):
    """Kept for its name: several connections had one id."""


class NodeOutOfService(AirflowException):
    """Kept for its name."""


class PodMutationHookException(AirflowException):
    """Kept for its name: the pod mutation hook failed."""


class PodReconciliationError(AirflowException):
    """Kept for its name: two pod specifications contradict each other."""


class PodLaunchFailedException(AirflowException):
    """A pod could not be started."""


class CommsError(AirflowException):
    """The control plane answered a request with an error; ``code`` is one of the protocol's codes."""

    def __init__(self, code, message, detail=None):
        super().__init__(message)
        self.code, self.message, self.detail = code, message, detail


class _CommsNotFound(CommsError, AirflowNotFoundException):
    pass


class _CommsExists(CommsError, DagRunAlreadyExists):
    pass


def error_for(code, message, detail=None):
    """Return the exception that stands for an error frame: always a CommsError, and the matching Airflow class too."""
    if code in ("CONNECTION_NOT_FOUND", "NOT_FOUND", "VARIABLE_NOT_FOUND", "XCOM_NOT_FOUND"):
        return _CommsNotFound(code, message, detail)
    if code == "DAGRUN_ALREADY_EXISTS":
        return _CommsExists(code, message, detail)
    return CommsError(code, message, detail)
