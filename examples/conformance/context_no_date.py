# rule: a run without a logical date has no ds, ts or data interval in its context
from airflow.sdk import dag, task


@dag(schedule=None)
def context_no_date():
    @task
    def keywords(dag_run=None, **kwargs):
        names = ("ds", "ts", "ds_nodash", "logical_date", "data_interval_start", "run_id", "prev_data_interval_start_success")
        return {"in_context": [name for name in names if name in kwargs], "logical_date": repr(dag_run.logical_date),
                "data_interval_start": repr(dag_run.data_interval_start)}

    keywords()


context_no_date()
