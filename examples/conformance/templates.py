# rule: templates see dates, params, the run and the values of other tasks
# run: {"logical_date": "2024-02-03T04:05:06Z", "conf": {"who": "you"}}
import datetime

from airflow.providers.standard.operators.bash import BashOperator
from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import DAG, task


def show(*args, templates_dict=None, **kwargs):
    return {"args": list(args), "dict": templates_dict}


with DAG("templates", schedule=None, params={"who": "me", "n": 3}, user_defined_macros={"twice": lambda x: 2 * x},
         user_defined_filters={"shout": lambda text: text.upper()}, start_date=datetime.datetime(2024, 1, 1)):

    @task
    def give():
        return {"k": [1, 2]}

    given = give()
    python = PythonOperator(
        task_id="python", python_callable=show,
        op_args=["{{ ds }}", "{{ ds_nodash }}", "{{ ts }}", "{{ ts_nodash }}", "{{ ts_nodash_with_tz }}",
                 "{{ data_interval_start }}", "{{ data_interval_end | ds }}", "{{ logical_date.isoformat() }}",
                 "{{ params.who }} {{ params.n }}", "{{ dag_run.conf['who'] }}", "{{ run_id }}",
                 "{{ dag.dag_id }}.{{ task.task_id }}", "{{ ti.task_id }} {{ ti.try_number }}", "{{ twice(21) }}",
                 "{{ 'loud' | shout }}", "{{ macros.ds_add(ds, 5) }}", "{{ macros.ds_format(ds, '%Y-%m-%d', '%d/%m/%y') }}",
                 "{{ task_instance_key_str }}", "{{ ti.xcom_pull(task_ids='give')['k'][1] }}",
                 "{{ logical_date.strftime('%H:%M') }}", "{{ macros.datetime(2024, 1, 1).year }}"],
        templates_dict={"deep": ["{{ ds }}", {"deeper": "{{ params.n + 1 }}"}]})
    bash = BashOperator(task_id="bash", bash_command="echo {{ ds }} $WHO", env={"WHO": "{{ params.who }}"})
    given >> [python, bash]
