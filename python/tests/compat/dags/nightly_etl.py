"""
### Nightly load

Airflow 1.10 spellings from a file that nobody has touched since.
"""
from datetime import datetime, timedelta

from airflow import DAG
from airflow.models import Variable
from airflow.operators.bash_operator import BashOperator
from airflow.operators.dummy_operator import DummyOperator
from airflow.operators.python_operator import BranchPythonOperator, PythonOperator
from airflow.utils.dates import days_ago
from airflow.utils.trigger_rule import TriggerRule

TOLD = []


def tell(context):
    TOLD.append((context["task_instance"].task_id, str(context["exception"]), context["ds"]))


default_args = {
    "owner": "warehouse",
    "depends_on_past": False,
    "start_date": datetime(2023, 1, 1),
    "email": ["data@example.com"],
    "email_on_failure": True,
    "email_on_retry": False,
    "retries": 0,
    "retry_delay": timedelta(minutes=5),
    "on_failure_callback": tell,
}

dag = DAG(
    "nightly_etl",
    default_args=default_args,
    description="Loads orders",
    schedule_interval="0 3 * * *",
    catchup=False,
    max_active_runs=1,
    concurrency=4,
    dagrun_timeout=timedelta(hours=2),
    user_defined_macros={"bucket": lambda name: "s3://%s-landing" % name, "region": "eu"},
    user_defined_filters={"shout": lambda text: text.upper()},
)
dag.doc_md = __doc__

start = DummyOperator(task_id="start", dag=dag)


def extract(ds, ds_nodash, templates_dict, limit, **kwargs):
    assert kwargs["ti"].task_id == "extract" and kwargs["execution_date"].strftime("%Y-%m-%d") == ds
    config = Variable.get("etl_config", deserialize_json=True, default_var={"tables": ["orders"]})
    kwargs["ti"].xcom_push(key="tables", value=config["tables"])
    return {"path": templates_dict["path"], "day": ds_nodash, "limit": limit}


extract_task = PythonOperator(
    task_id="extract",
    python_callable=extract,
    provide_context=True,
    op_kwargs={"limit": "{{ params.limit }}"},
    templates_dict={"path": "{{ bucket('orders') }}/{{ region | shout }}/{{ macros.ds_add(ds, -1) }}"},
    params={"limit": 10},
    dag=dag,
)

count = BashOperator(
    task_id="count",
    bash_command="""
    set -e
    echo "{{ ti.xcom_pull(task_ids='extract')['path'] }} {{ ti.xcom_pull('extract', key='tables') | join(',') }}"
    """,
    xcom_push=True,
    dag=dag,
)


def choose(**context):
    pulled = context["ti"].xcom_pull(task_ids=["extract", "count"])
    assert [type(one).__name__ for one in pulled] == ["dict", "str"], pulled
    return "full" if context["execution_date"].weekday() == 0 else "delta"


branch = BranchPythonOperator(task_id="branch", python_callable=choose, provide_context=True, dag=dag)
full = DummyOperator(task_id="full", dag=dag)
delta = DummyOperator(task_id="delta", dag=dag)
join = DummyOperator(task_id="join", trigger_rule="none_failed_or_skipped", dag=dag)


def quality(**_):
    raise ValueError("17 orders without a customer")


check = PythonOperator(task_id="check", python_callable=quality, dag=dag)
alert = BashOperator(task_id="alert", bash_command="echo alert", trigger_rule=TriggerRule.ONE_FAILED, dag=dag)
done = DummyOperator(task_id="done", trigger_rule=TriggerRule.ALL_DONE, dag=dag)

start >> extract_task >> count >> branch
branch.set_downstream([full, delta])
join.set_upstream([full, delta])
join >> check >> alert
[check, alert] >> done

days_ago(2)
