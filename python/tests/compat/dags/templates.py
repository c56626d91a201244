"""Every documented way of a template, one task each; the tests look at what is rendered."""

import json
from datetime import datetime, timedelta

from airflow import DAG
from airflow.operators.python import PythonOperator

FIELDS = {
    "var": "{{ var.value.bucket }}", "json": "{{ var.json.limits.rows }}", "fallback": "{{ var.value.get('no', 'd') }}",
    "conn": "{{ conn.warehouse.host }}:{{ conn.warehouse.port }}", "extra": "{{ conn.warehouse.extra_dejson.role }}",
    "params": "{{ params.z }}", "conf": "{{ dag_run.conf['k'] }}", "get": "{{ dag_run.conf.get('no', 'n') }}",
    "ds_add": "{{ macros.ds_add(ds, 5) }}", "format": "{{ macros.ds_format(ds, '%Y-%m-%d', '%d/%m/%Y') }}",
    "filter": "{{ data_interval_start | ds }}", "nodash": "{{ data_interval_end | ts_nodash }}",
    "strftime": "{{ execution_date.strftime('%Y/%m/%d') }}", "add": "{{ logical_date.add(days=1) | ds }}",
    "subtract": "{{ logical_date.subtract(hours=3).isoformat() }}", "ts_nodash": "{{ ts_nodash }}", "ts": "{{ ts }}",
    "prev": "{{ prev_ds }}", "next": "{{ next_ds }}", "tomorrow": "{{ tomorrow_ds_nodash }}",
    "delta": "{{ (execution_date - macros.timedelta(days=7)).date() }}",
    "ids": "{{ dag.dag_id }}.{{ task.task_id }}.{{ ti.try_number }}", "key": "{{ task_instance_key_str }}",
    "nested": [{"a": ("{{ ds }}", 1)}], "loop": "{% for n in params.list %}{{ n }};{% endfor %}",
    "pull": "{{ ti.xcom_pull(task_ids='push')['rows'] }}", "owner": "{{ task.owner }}",
    "run_id": "{{ run_id }}", "relative": "{{ macros.datetime(2024, 1, 2) - macros.timedelta(days=1) }}",
    "in_timezone": "{{ logical_date.in_timezone('Europe/Berlin').strftime('%H') }}",
}
SEEN = {}

with DAG("templates", schedule_interval="@daily", start_date=datetime(2024, 1, 1), catchup=False,
         params={"z": 26, "list": [1, 2]}) as dag:
    push = PythonOperator(task_id="push", python_callable=lambda: {"rows": 3})
    push >> PythonOperator(task_id="show", python_callable=lambda **kwargs: SEEN.update(kwargs["templates_dict"]),
                           templates_dict=FIELDS)

with DAG("native", schedule_interval=timedelta(days=1), start_date=datetime(2024, 1, 1), catchup=False,
         render_template_as_native_obj=True, params={"z": 26}) as native:
    PythonOperator(task_id="push", python_callable=lambda: json.loads('{"rows": [1, 2]}')) >> PythonOperator(
        task_id="show", python_callable=lambda rows, n, text: SEEN.update(rows=rows, n=n, text=text),
        op_kwargs={"rows": "{{ ti.xcom_pull(task_ids='push')['rows'] }}", "n": "{{ params.z }}", "text": "n={{ params.z }}"})

with DAG("undefined", schedule_interval=None, start_date=datetime(2024, 1, 1)) as undefined:
    PythonOperator(task_id="typo", python_callable=print, op_args=["{{ logical_dat }}"])
