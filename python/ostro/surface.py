"""Which names people import from ``airflow.…`` and what stands behind each: the whole import surface, as one table.

A line is a module; after it, the modules of this package whose public names it offers, or ``module:name`` for one name
and ``module:name=shown`` for one under another name; ``@module`` is the module itself. Airflow 2 and Airflow 3 spellings
stand side by side.
"""

_EXC = "exceptions"
_DECOR = "decorators:task decorators:setup decorators:teardown decorators:TaskDecorators taskgroup:task_group dag:dag"
_PY = "operators.python"
_ASSETS = "assets"
_NOTIFIER = "callbacks:BaseNotifier"
_STATES = "rules:State rules:TaskInstanceState rules:DagRunState rules:TaskInstanceState=IntermediateTIState " \
          "rules:TaskInstanceState=TerminalTIState"
_TZ = "timezone"
_BRANCH = "operators.python:BaseBranchOperator operators.skipping:SkipMixin"
_POD = "operators.pod:KubernetesPodOperator"
_SDK = (
    "dag:DAG dag:dag decorators:task decorators:setup decorators:teardown decorators:result taskgroup:TaskGroup "
    "taskgroup:task_group baseoperator:BaseOperator baseoperator:BaseOperatorLink sensors:BaseSensorOperator "
    "sensors:PokeReturnValue callbacks:BaseNotifier connection:BaseHook connection:Connection variable:Variable "
    "params:Param params:ParamsDict xcomarg:XComArg graph:Label graph:EdgeModifier graph:chain graph:chain_linear "
    "graph:cross_downstream live:get_current_context assets:Asset assets:AssetAlias assets:AssetAll assets:AssetAny "
    "assets:AssetWatcher assets:Metadata assets:Model assets:BaseAsset rules:TriggerRule rules:WeightRule "
    "rules:DagRunState rules:TaskInstanceState timetables:CronDataIntervalTimetable timetables:CronTriggerTimetable "
    "timetables:MultipleCronTriggerTimetable timetables:DeltaDataIntervalTimetable timetables:DeltaTriggerTimetable "
    "timetables:EventsTimetable timetables:AssetOrTimeSchedule template:literal @macros context:Context xcom:XCom "
    "deadlines:DeadlineAlert deadlines:DeadlineReference deadlines:AsyncCallback deadlines:SyncCallback @timezone "
    "sdk_extras:ObjectStoragePath configuration:conf operators.python:BaseBranchOperator "
    "operators.skipping:SkipMixin operators.skipping:SkipMixin=BranchMixIn ti:TaskInstance=RuntimeTaskInstance "
    "ti:TaskInstance assetdecorators:asset sdk_extras:get_parsing_context sdk_extras:NEVER_EXPIRE "
    "sdk_extras:BaseAsyncOperator assets:AssetAccessControl xcom:BaseXCom surface:VERSION=__version__ "
    "retrypolicy:ExceptionRetryPolicy retrypolicy:RetryAction retrypolicy:RetryDecision retrypolicy:RetryPolicy "
    "retrypolicy:RetryRule partitions"
)
_COMPAT = _SDK + (
    " exceptions sensors:poke_mode_only mapping:MappedOperator retrypolicy:ChainRetryPolicy decorators:DecoratedOperator "
    "decorators:unique_task_id=get_unique_task_id sdk_extras:determine_kwargs sdk_extras:AirflowPlugin "
    "sdk_extras:TaskInstanceKey context:context_to_env=context_to_airflow_vars sdk_extras:timeout "
    "sdk_extras:XCOM_RETURN_KEY sdk_extras:Stats variable:mask=mask_secret"
)
_WEEKDAY_BRANCH = "weekdays:BranchDayOfWeekOperator"
_MODEL_BASE = (
    "baseoperator:BaseOperator baseoperator:BaseOperatorLink graph:chain graph:chain_linear graph:cross_downstream"
)

MODULES = {
    "airflow": "dag:DAG assets:Asset assets:Dataset xcomarg:XComArg configuration:conf exceptions:AirflowException",
    "airflow.sdk": _SDK,
    "airflow.sdk.api": "",
    "airflow.sdk.bases": "",
    "airflow.sdk.bases.operator": _MODEL_BASE,
    "airflow.sdk.bases.branch": _BRANCH,
    "airflow.sdk.bases.skipmixin": "operators.skipping",
    "airflow.sdk.bases.sensor": "sensors",
    "airflow.sdk.bases.hook": "connection:BaseHook",
    "airflow.sdk.bases.notifier": _NOTIFIER,
    "airflow.sdk.bases.operatorlink": "baseoperator:BaseOperatorLink",
    "airflow.sdk.bases.xcom": "xcom:BaseXCom",
    "airflow.sdk.bases.timetable": "timetables",
    "airflow.sdk.bases.decorator": "decorators:DecoratedOperator decorators:TaskDecorators decorators:unique_task_id",
    "airflow.sdk.configuration": "configuration",
    "airflow.sdk.definitions": "",
    "airflow.sdk.definitions.asset": _ASSETS,
    "airflow.sdk.definitions.asset.metadata": "assets:Metadata",
    "airflow.sdk.definitions.asset.access_control": "assets:AssetAccessControl",
    "airflow.sdk.definitions.asset.decorators": "assetdecorators:asset assetdecorators:MultiAssetDefinition",
    "airflow.sdk.definitions.baseoperator": _MODEL_BASE,
    "airflow.sdk.definitions.connection": "connection:Connection",
    "airflow.sdk.definitions.context": "context:Context live:get_current_context",
    "airflow.sdk.definitions.dag": "dag:DAG dag:dag",
    "airflow.sdk.definitions.deadline": "deadlines",
    "airflow.sdk.definitions.decorators": _DECOR,
    "airflow.sdk.definitions.edges": "graph:Label graph:EdgeModifier",
    "airflow.sdk.definitions.mappedoperator": "mapping:MappedOperator mapping:OperatorPartial",
    "airflow.sdk.definitions.notifier": _NOTIFIER,
    "airflow.sdk.definitions.param": "params",
    "airflow.sdk.definitions.partition_mappers": "partitions",
    "airflow.sdk.definitions.retry_policy": "retrypolicy",
    "airflow.sdk.definitions.taskgroup": "taskgroup:TaskGroup",
    "airflow.sdk.definitions.template": "template:literal",
    "airflow.sdk.definitions.timetables": "",
    "airflow.sdk.definitions.timetables.assets": "timetables:AssetOrTimeSchedule timetables:AssetTriggeredTimetable",
    "airflow.sdk.definitions.timetables.events": "timetables:EventsTimetable",
    "airflow.sdk.definitions.timetables.interval": "timetables:CronDataIntervalTimetable "
                                                   "timetables:DeltaDataIntervalTimetable",
    "airflow.sdk.definitions.timetables.trigger": "timetables:CronTriggerTimetable timetables:DeltaTriggerTimetable "
                                                  "timetables:MultipleCronTriggerTimetable",
    "airflow.sdk.definitions.timetables.simple": "timetables:NullTimetable timetables:OnceTimetable "
                                                 "timetables:ContinuousTimetable",
    "airflow.sdk.definitions.variable": "variable:Variable",
    "airflow.sdk.definitions.xcom_arg": "xcomarg",
    "airflow.sdk.exceptions": _EXC,
    "airflow.sdk.execution_time": "",
    "airflow.sdk.execution_time.context": "context live:get_current_context variable:mask=mask_secret "
                                          "sdk_extras:NEVER_EXPIRE",
    "airflow.sdk.execution_time.macros": "macros",
    "airflow.sdk.execution_time.secrets_masker": "variable:mask=mask_secret",
    "airflow.sdk.execution_time.task_runner": "ti:TaskInstance=RuntimeTaskInstance",
    "airflow.sdk.execution_time.timeout": "sdk_extras:timeout",
    "airflow.sdk.execution_time.xcom": "xcom",
    "airflow.sdk.log": "variable:mask=mask_secret",
    "airflow.sdk.timezone": _TZ,
    "airflow.sdk.types": "ti:TaskInstance=RuntimeTaskInstanceProtocol context:DagRunView=DagRunProtocol "
                         "params:NOTSET params:ArgNotSet",
    "airflow.configuration": "configuration",
    "airflow.datasets": "assets:Dataset assets:AssetAlias=DatasetAlias assets:AssetAll=DatasetAll "
                        "assets:AssetAny=DatasetAny",
    "airflow.datasets.metadata": "assets:Metadata",
    "airflow.decorators": _DECOR,
    "airflow.decorators.base": "decorators:DecoratedOperator decorators:TaskDecorators decorators:unique_task_id",
    "airflow.decorators.task_group": "taskgroup:task_group",
    "airflow.exceptions": _EXC,
    "airflow.hooks": "",
    "airflow.hooks.base": "connection:BaseHook",
    "airflow.hooks.base_hook": "connection:BaseHook",
    "airflow.hooks.filesystem": "hooks:FSHook",
    "airflow.hooks.subprocess": "hooks:SubprocessHook hooks:SubprocessResult",
    "airflow.io": "",
    "airflow.io.path": "sdk_extras:ObjectStoragePath",
    "airflow.lineage": "",
    "airflow.lineage.entities": "sdk_extras:File",
    "airflow.listeners": "sdk_extras:hookimpl",
    "airflow.macros": "macros",
    "airflow.models": (
        "dag:DAG variable:Variable connection:Connection baseoperator:BaseOperator params:Param xcom:XCom "
        "baseoperator:BaseOperatorLink ti:TaskInstance sdk_extras:DagBag operators.skipping:SkipMixin "
        "xcomarg:XComArg context:DagRunView=DagRun sdk_extras:DagModel mapping:MappedOperator"
    ),
    "airflow.models.abstractoperator": "baseoperator:BaseOperator=AbstractOperator",
    "airflow.models.asset": "sdk_extras:AssetModel",
    "airflow.models.base": "sdk_extras:ID_LEN",
    "airflow.models.baseoperator": _MODEL_BASE,
    "airflow.models.baseoperatorlink": "baseoperator:BaseOperatorLink",
    "airflow.models.connection": "connection:Connection",
    "airflow.models.dag": "dag:DAG dag:dag context_stack:DagContext sdk_extras:DagModel",
    "airflow.models.dagbag": "sdk_extras:DagBag",
    "airflow.models.dagrun": "context:DagRunView=DagRun rules:DagRunType rules:DagRunState",
    "airflow.models.expandinput": "mapping:ExpandInput",
    "airflow.models.mappedoperator": "mapping:MappedOperator mapping:OperatorPartial",
    "airflow.models.operator": "baseoperator:BaseOperator=Operator",
    "airflow.models.param": "params",
    "airflow.models.skipmixin": "operators.skipping",
    "airflow.models.taskinstance": "ti:TaskInstance live:get_current_context operators.python:PythonOperator=_unused "
                                   "xcom:XCom sdk_extras:clear_task_instances",
    "airflow.models.taskinstancekey": "sdk_extras:TaskInstanceKey",
    "airflow.models.taskmixin": "graph:DependencyMixin graph:DependencyMixin=DAGNode",
    "airflow.models.variable": "variable:Variable",
    "airflow.models.xcom": "xcom sdk_extras:XCOM_RETURN_KEY",
    "airflow.models.xcom_arg": "xcomarg",
    "airflow.notifications": "",
    "airflow.notifications.basenotifier": _NOTIFIER,
    "airflow.operators": "",
    "airflow.operators.bash": "operators.bash",
    "airflow.operators.bash_operator": "operators.bash",
    "airflow.operators.branch": _BRANCH,
    "airflow.operators.branch_operator": _BRANCH,
    "airflow.operators.dagrun_operator": "operators.simple:TriggerDagRunOperator",
    "airflow.operators.datetime": "weekdays:BranchDateTimeOperator",
    "airflow.operators.dummy": "operators.simple:DummyOperator",
    "airflow.operators.dummy_operator": "operators.simple:DummyOperator",
    "airflow.operators.email": "operators.email:EmailOperator",
    "airflow.operators.empty": "operators.simple:EmptyOperator",
    "airflow.operators.latest_only": "operators.simple:LatestOnlyOperator",
    "airflow.operators.latest_only_operator": "operators.simple:LatestOnlyOperator",
    "airflow.operators.python": _PY + " operators.skipping:SkipMixin",
    "airflow.operators.python_operator": _PY,
    "airflow.operators.smooth": "operators.simple:SmoothOperator",
    "airflow.operators.trigger_dagrun": "operators.simple:TriggerDagRunOperator",
    "airflow.operators.weekday": _WEEKDAY_BRANCH,
    "airflow.partition_mappers": "partitions",
    "airflow.partition_mappers.base": "partitions:PartitionMapper partitions:RollupMapper",
    "airflow.partition_mappers.window": "partitions",
    "airflow.plugins_manager": "sdk_extras:AirflowPlugin",
    "airflow.providers": "",
    "airflow.providers.cncf": "",
    "airflow.providers.cncf.kubernetes": "",
    "airflow.providers.cncf.kubernetes.backcompat": "",
    "airflow.providers.cncf.kubernetes.operators": "",
    "airflow.providers.cncf.kubernetes.operators.kubernetes_pod": _POD,
    "airflow.providers.cncf.kubernetes.operators.pod": _POD + " exceptions:PodLaunchFailedException",
    "airflow.providers.cncf.kubernetes.secret": "operators.kube_models:Secret",
    "airflow.providers.cncf.kubernetes.utils": "",
    "airflow.providers.cncf.kubernetes.utils.pod_manager": "operators.kube_models:OnFinishAction",
    "airflow.kubernetes": "",
    "airflow.kubernetes.secret": "operators.kube_models:Secret",
    "airflow.contrib": "",
    "airflow.contrib.hooks": "",
    "airflow.contrib.sensors": "",
    "airflow.contrib.sensors.file_sensor": "sensors:FileSensor",
    "airflow.contrib.operators": "",
    "airflow.contrib.operators.kubernetes_pod_operator": _POD,
    "airflow.providers.common": "",
    "airflow.providers.common.compat": "",
    "airflow.providers.common.compat.assets": _ASSETS,
    "airflow.providers.common.compat.sdk": _COMPAT,
    "airflow.providers.common.compat.standard": "",
    "airflow.providers.common.compat.standard.operators": _PY,
    "airflow.providers.common.compat.standard.triggers": "triggers",
    "airflow.providers.pagerduty": "",
    "airflow.providers.pagerduty.hooks": "",
    "airflow.providers.pagerduty.hooks.pagerduty_events": "notifiers:PagerdutyEventsHook",
    "airflow.providers.pagerduty.notifications": "",
    "airflow.providers.pagerduty.notifications.pagerduty": "notifiers:PagerdutyNotifier "
                                                           "notifiers:send_pagerduty_notification",
    "airflow.providers.slack": "",
    "airflow.providers.slack.hooks": "",
    "airflow.providers.slack.hooks.slack": "notifiers:SlackHook",
    "airflow.providers.slack.hooks.slack_webhook": "notifiers:SlackWebhookHook",
    "airflow.providers.slack.notifications": "",
    "airflow.providers.slack.notifications.slack": "notifiers:SlackNotifier notifiers:send_slack_notification",
    "airflow.providers.slack.notifications.slack_notifier": "notifiers:SlackNotifier "
                                                            "notifiers:send_slack_notification",
    "airflow.providers.slack.notifications.slack_webhook": "notifiers:SlackWebhookNotifier "
                                                           "notifiers:send_slack_webhook_notification",
    "airflow.providers.slack.operators": "",
    "airflow.providers.slack.operators.slack_webhook": "notifiers:SlackWebhookOperator",
    "airflow.providers.slack.operators.slack": "notifiers:SlackAPIPostOperator",
    "airflow.providers.smtp": "",
    "airflow.providers.smtp.operators": "",
    "airflow.providers.smtp.operators.smtp": "operators.email:EmailOperator",
    "airflow.providers.standard": "",
    "airflow.providers.standard.decorators": "",
    "airflow.providers.standard.decorators.bash": "decorators:_BashDecoratedOperator",
    "airflow.providers.standard.decorators.python": "decorators:_PythonDecoratedOperator",
    "airflow.providers.standard.decorators.sensor": "sensors:DecoratedSensorOperator",
    "airflow.providers.standard.hooks": "",
    "airflow.providers.standard.hooks.filesystem": "hooks:FSHook",
    "airflow.providers.standard.hooks.subprocess": "hooks:SubprocessHook hooks:SubprocessResult",
    "airflow.providers.standard.operators": "",
    "airflow.providers.standard.operators.bash": "operators.bash",
    "airflow.providers.standard.operators.branch": _BRANCH,
    "airflow.providers.standard.operators.datetime": "weekdays:BranchDateTimeOperator",
    "airflow.providers.standard.operators.empty": "operators.simple:EmptyOperator",
    "airflow.providers.standard.exceptions": "exceptions:HITLTriggerEventError exceptions:HITLTimeoutError "
                                             "exceptions:HITLRejectException",
    "airflow.providers.standard.operators.hitl": "operators.hitl",
    "airflow.providers.standard.operators.latest_only": "operators.simple:LatestOnlyOperator",
    "airflow.providers.standard.operators.python": _PY,
    "airflow.providers.standard.operators.smooth": "operators.simple:SmoothOperator",
    "airflow.providers.standard.operators.trigger_dagrun": "operators.simple:TriggerDagRunOperator",
    "airflow.providers.standard.operators.weekday": _WEEKDAY_BRANCH,
    "airflow.providers.standard.sensors": "",
    "airflow.providers.standard.sensors.bash": "sensors:BashSensor",
    "airflow.providers.standard.sensors.date_time": "sensors:DateTimeSensor sensors:DateTimeSensorAsync",
    "airflow.providers.standard.sensors.external_task": "sensors:ExternalTaskSensor sensors:ExternalTaskMarker",
    "airflow.providers.standard.sensors.filesystem": "sensors:FileSensor",
    "airflow.providers.standard.sensors.python": "sensors:PythonSensor",
    "airflow.providers.standard.sensors.time": "sensors:TimeSensor sensors:TimeSensorAsync",
    "airflow.providers.standard.sensors.time_delta": "sensors:TimeDeltaSensor sensors:TimeDeltaSensorAsync "
                                                      "sensors:WaitSensor",
    "airflow.providers.standard.sensors.weekday": "weekdays:DayOfWeekSensor",
    "airflow.providers.standard.triggers": "",
    "airflow.providers.standard.triggers.external_task": "triggers:WorkflowTrigger triggers:DagStateTrigger",
    "airflow.providers.standard.triggers.file": "triggers:FileTrigger triggers:FileDeleteTrigger "
                                                "triggers:DirectoryFileDeleteTrigger",
    "airflow.providers.standard.triggers.temporal": "triggers:DateTimeTrigger triggers:TimeDeltaTrigger",
    "airflow.providers.standard.utils": "",
    "airflow.providers.standard.utils.skipmixin": "operators.skipping",
    "airflow.providers.standard.utils.weekday": "weekdays:WeekDay",
    "airflow.secrets": "sdk_extras:BaseSecretsBackend",
    "airflow.sensors": "",
    "airflow.sensors.base": "sensors",
    "airflow.sensors.base_sensor_operator": "sensors",
    "airflow.sensors.bash": "sensors:BashSensor",
    "airflow.sensors.date_time": "sensors:DateTimeSensor sensors:DateTimeSensorAsync",
    "airflow.sensors.external_task": "sensors:ExternalTaskSensor sensors:ExternalTaskMarker",
    "airflow.sensors.external_task_sensor": "sensors:ExternalTaskSensor sensors:ExternalTaskMarker",
    "airflow.sensors.filesystem": "sensors:FileSensor",
    "airflow.sensors.python": "sensors:PythonSensor",
    "airflow.sensors.date_time_sensor": "sensors:DateTimeSensor sensors:DateTimeSensorAsync",
    "airflow.sensors.time_delta": "sensors:TimeDeltaSensor sensors:TimeDeltaSensorAsync "
                                                      "sensors:WaitSensor",
    "airflow.sensors.time_sensor": "sensors:TimeSensor sensors:TimeSensorAsync",
    "airflow.sensors.weekday": "weekdays:DayOfWeekSensor",
    "airflow.settings": "sdk_extras:TIMEZONE configuration:AIRFLOW_HOME=AIRFLOW_HOME sdk_extras:DAGS_FOLDER",
    "airflow.stats": "sdk_extras:Stats",
    "airflow.task": "",
    "airflow.task.priority_strategy": "sdk_extras:PriorityWeightStrategy",
    "airflow.task.trigger_rule": "rules:TriggerRule",
    "airflow.task.weight_rule": "rules:WeightRule",
    "airflow.timetables": "",
    "airflow.timetables.assets": "timetables:AssetOrTimeSchedule",
    "airflow.timetables.base": "timetables",
    "airflow.timetables.datasets": "timetables:DatasetOrTimeSchedule",
    "airflow.timetables.events": "timetables:EventsTimetable",
    "airflow.timetables.interval": "timetables:CronDataIntervalTimetable timetables:DeltaDataIntervalTimetable",
    "airflow.timetables.simple": "timetables:NullTimetable timetables:OnceTimetable timetables:ContinuousTimetable "
                                 "timetables:AssetTriggeredTimetable",
    "airflow.timetables.trigger": "timetables:CronTriggerTimetable timetables:DeltaTriggerTimetable "
                                  "timetables:MultipleCronTriggerTimetable",
    "airflow.triggers": "",
    "airflow.triggers.base": "triggering",
    "airflow.triggers.external_task": "triggers:DagStateTrigger triggers:WorkflowTrigger",
    "airflow.triggers.file": "triggers:FileTrigger",
    "airflow.triggers.temporal": "triggers:DateTimeTrigger triggers:TimeDeltaTrigger",
    "airflow.typing_compat": "sdk_extras:TypedDict",
    "airflow.utils": "",
    "airflow.utils.context": "context:Context",
    "airflow.utils.dag_parsing_context": "sdk_extras:get_parsing_context",
    "airflow.utils.dates": "sdk_extras:days_ago sdk_extras:date_range timetables:PRESETS=cron_presets",
    "airflow.utils.db": "sdk_extras:provide_session",
    "airflow.utils.decorators": "sdk_extras:apply_defaults",
    "airflow.utils.edgemodifier": "graph:Label graph:EdgeModifier",
    "airflow.utils.email": "operators.email:send_email",
    "airflow.utils.file": "",
    "airflow.utils.helpers": "graph:chain graph:cross_downstream sdk_extras:exactly_one sdk_extras:chunks "
                             "sdk_extras:merge_dicts sdk_extras:prune_dict sdk_extras:at_most_one",
    "airflow.utils.log": "",
    "airflow.utils.log.logging_mixin": "sdk_extras:LoggingMixin",
    "airflow.utils.log.secrets_masker": "variable:mask=mask_secret",
    "airflow.utils.module_loading": "sdk_extras:import_string",
    "airflow.utils.operator_helpers": "context:context_to_env=context_to_airflow_vars sdk_extras:determine_kwargs",
    "airflow.utils.session": "sdk_extras:provide_session sdk_extras:create_session sdk_extras:NEW_SESSION",
    "airflow.utils.setup_teardown": "graph:SetupTeardownScope=SetupTeardownContext",
    "airflow.utils.state": _STATES,
    "airflow.utils.task_group": "taskgroup:TaskGroup context_stack:TaskGroupContext",
    "airflow.utils.template": "template:literal",
    "airflow.utils.timezone": _TZ,
    "airflow.utils.trigger_rule": "rules:TriggerRule",
    "airflow.utils.types": "rules:DagRunType params:NOTSET params:ArgNotSet",
    "airflow.utils.weekday": "weekdays:WeekDay",
    "airflow.utils.weight_rule": "rules:WeightRule",
    "airflow.utils.xcom": "sdk_extras:XCOM_RETURN_KEY",
    "airflow.version": "sdk_extras:version",
}

VERSION = "3.3.2"


def targets(module):
    """Yield (implementing module, its name, shown name); a whole module has None for both names."""
    for word in MODULES[module].split():
        if word[0] == "@":
            yield "ostro." + word[1:], ".", word[1:]
            continue
        path, _, names = word.partition(":")
        name, _, shown = names.partition("=")
        yield "ostro." + path, name or None, shown or name or None


def is_package(module):
    head = module + "."
    return module == "airflow" or not MODULES.get(module) or any(other.startswith(head) for other in MODULES)


def resolve(module, name):
    """Return what ``module`` offers under ``name``; raise AttributeError naming the nearest."""
    import importlib

    for path, original, shown in targets(module):
        if shown == name:
            implementation = importlib.import_module(path)
            return implementation if original == "." else getattr(implementation, original)
        if original is None and not name.startswith("_"):
            implementation = importlib.import_module(path)
            if name in vars(implementation):
                return vars(implementation)[name]
            if hasattr(implementation, "__getattr__") and hasattr(implementation, name):
                return getattr(implementation, name)
    raise AttributeError("module %r has no attribute %r" % (module, name))


def names(module):
    """Return the names a module offers."""
    import importlib

    out = set()
    for path, _, shown in targets(module):
        if shown is None:
            out.update(name for name, value in vars(importlib.import_module(path)).items()
                       if not name.startswith("_") and getattr(value, "__module__", path) == path)
        elif not shown.startswith("_"):
            out.add(shown)
    return sorted(out)
