# rule: render_template_as_native_obj renders to Python values
from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import DAG, task

with DAG("templates_native", schedule=None, render_template_as_native_obj=True, params={"n": 3}):

    @task
    def give():
        return {"k": [1, 2]}

    given = give()
    given >> PythonOperator(task_id="show", python_callable=lambda *args: [[type(one).__name__, one] for one in args],
                            op_args=["{{ ti.xcom_pull(task_ids='give') }}", "{{ params.n }}", "{{ [1, 2] }}", "text",
                                     "{{ 1 }} and {{ 2 }}", "{{ none }}"])
