"""What to say of an ``airflow`` module that is not here: what has become of it in Airflow, and what to use."""

# Old modules that Airflow 2 moved into providers: the last part of the name → where it is. Also below airflow.contrib.
_MOVED = {
    "S3_hook": "amazon.aws.hooks.s3", "aws_hook": "amazon.aws.hooks.base_aws", "s3_to_redshift_operator":
    "amazon.aws.transfers.s3_to_redshift", "emr_create_job_flow_operator": "amazon.aws.operators.emr",
    "redshift_hook": "amazon.aws.hooks.redshift_sql", "s3_key_sensor": "amazon.aws.sensors.s3",
    "gcs_hook": "google.cloud.hooks.gcs", "bigquery_hook": "google.cloud.hooks.bigquery",
    "bigquery_operator": "google.cloud.operators.bigquery", "dataproc_operator": "google.cloud.operators.dataproc",
    "gcs_to_bq": "google.cloud.transfers.gcs_to_bigquery", "gcs_sensor": "google.cloud.sensors.gcs",
    "postgres_hook": "postgres.hooks.postgres", "postgres_operator": "common.sql.operators.sql",
    "mysql_hook": "mysql.hooks.mysql", "mysql_operator": "common.sql.operators.sql",
    "mssql_hook": "microsoft.mssql.hooks.mssql", "oracle_hook": "oracle.hooks.oracle",
    "sqlite_hook": "sqlite.hooks.sqlite", "sqlite_operator": "common.sql.operators.sql",
    "snowflake_hook": "snowflake.hooks.snowflake", "snowflake_operator": "snowflake.operators.snowflake",
    "databricks_operator": "databricks.operators.databricks", "http_hook": "http.hooks.http",
    "http_operator": "http.operators.http", "http_sensor": "http.sensors.http", "http": "http.operators.http",
    "docker_operator": "docker.operators.docker", "docker_hook": "docker.hooks.docker",
    "hive_hooks": "apache.hive.hooks.hive", "hive_operator": "apache.hive.operators.hive",
    "spark_submit_operator": "apache.spark.operators.spark_submit", "hdfs_sensor": "apache.hdfs.sensors.web_hdfs",
    "ssh_hook": "ssh.hooks.ssh", "ssh_operator": "ssh.operators.ssh", "sftp_operator": "sftp.operators.sftp",
    "ftp_hook": "ftp.hooks.ftp", "redis_hook": "redis.hooks.redis", "mongo_hook": "mongo.hooks.mongo",
    "slack_operator": "slack.operators.slack_api", "slack_webhook_operator": "slack.operators.slack_webhook",
    "slack_hook": "slack.hooks.slack", "dbapi": "common.sql.hooks.sql", "dbapi_hook": "common.sql.hooks.sql",
    "sql": "common.sql.operators.sql", "check_operator": "common.sql.operators.sql",
    "sql_sensor": "common.sql.sensors.sql", "generic_transfer": "common.sql.operators.generic_transfer",
    "papermill_operator": "papermill.operators.papermill", "jira_operator": "atlassian.jira.operators.jira",
    "wasb_hook": "microsoft.azure.hooks.wasb", "winrm_operator": "microsoft.winrm.operators.winrm",
}
_FAMILIES = ("apache", "atlassian", "common", "cncf", "dbt", "microsoft")  # their providers are one level further down
_SQL_SENSOR = {"airflow.sensors.sql": "common.sql.sensors.sql"}

_NO_SUBDAGS = "Airflow 3 has removed SubDAGs; use a TaskGroup (from airflow.sdk import TaskGroup)"
# Modules that are gone or are parts of Airflow's own machinery: what became of them, the longest prefix first.
_GONE = {
    "airflow.operators.subdag": _NO_SUBDAGS,
    "airflow.operators.subdag_operator": _NO_SUBDAGS,
    "airflow.models.subdag": _NO_SUBDAGS,
    "airflow.models.SubDagOperator": _NO_SUBDAGS,
    "airflow.sensors.subdag": _NO_SUBDAGS,
    "airflow.contrib": "Airflow 2 has removed airflow.contrib; what was in it is in provider packages (airflow.providers.…)",
    "airflow.www": "it belongs to Airflow's web server; DAG files need none of it",
    "airflow.executors": "it belongs to Airflow's scheduler; Ostro runs tasks itself, and DAG files need none of it",
    "airflow.jobs": "it belongs to Airflow's scheduler; Ostro has its own, and DAG files need none of it",
    "airflow.api": "it belongs to Airflow's server; use the REST API, or TriggerDagRunOperator in a DAG",
    "airflow.api_connexion": "it belongs to Airflow's server; Ostro answers Airflow's REST API at /api/v2",
    "airflow.api_fastapi": "it belongs to Airflow's server; Ostro answers Airflow's REST API at /api/v2",
    "airflow.auth": "it belongs to Airflow's server; DAG files need none of it",
    "airflow.cli": "it belongs to Airflow's command line; Ostro's is the program ostro",
    "airflow.migrations": "it belongs to Airflow's database, which Ostro does not use",
    "airflow.serialization": "it belongs to Airflow's scheduler; DAG files need none of it",
    "airflow.dag_processing": "it belongs to Airflow's scheduler; DAG files need none of it",
    "airflow.task": "it belongs to Airflow's worker; DAG files need none of it",
    "airflow.hooks.package_index": "set PIP_INDEX_URL in the environment of the tasks instead (tasks.env in ostro.yaml)",
    "airflow.providers.standard.hooks.package_index":
        "set PIP_INDEX_URL in the environment of the tasks instead (tasks.env in ostro.yaml)",
}


def package(module):
    """Return the distribution that holds a module below airflow.providers."""
    parts = module.split(".")[2:]
    if len(parts) == 1 and parts[0] in _FAMILIES:
        return "apache-airflow-providers-%s-…" % parts[0]
    return "apache-airflow-providers-" + "-".join(parts[: 2 if parts[0] in _FAMILIES else 1]).replace("_", "-")


def explain(module):
    """Return what is to be said of a module that is not here, "" when nothing is known of it."""
    head = module
    while head:
        if head in _GONE:
            break
        head = head.rpartition(".")[0]
    place = _SQL_SENSOR.get(module) or _MOVED.get(module.rpartition(".")[2])
    old = module.startswith(("airflow.contrib.", "airflow.hooks.", "airflow.operators.", "airflow.sensors."))
    if place and old and head in ("", "airflow.contrib"):
        moved = "airflow.providers." + place
        return "Airflow 2 has moved it to %s (pip install %s)" % (moved, package(moved))
    return _GONE.get(head, "")


def offering(module, surface):
    """Return where a name is that somebody looks for in the wrong module, "" for nowhere."""
    parent, _, name = module.rpartition(".")
    if not name[:1].isupper():
        return ""
    found = [one for one in surface.MODULES if name in surface.names(one)]
    found.sort(key=lambda one: (not one.startswith(parent + "."), one.endswith("_operator"), len(one)))
    return "; %s is in %s" % (name, found[0]) if found else ""
