# rule: what a function may ask for by name
# run: {"logical_date": "2024-02-03T00:00:00Z", "conf": {"x": 1}}
from airflow.sdk import dag, get_current_context, task


@dag(schedule=None, tags=["t"])
def context():
    @task
    def by_name(ds, run_id, dag_run, ti, task, dag, logical_date, data_interval_start, params, ts_nodash, conf=None):
        return [ds, run_id, dict(dag_run.conf), ti.task_id, ti.map_index, task.task_id, dag.dag_id, logical_date.isoformat(),
                data_interval_start.isoformat(), dict(params), ts_nodash]

    @task
    def keywords(**kwargs):
        return sorted(name for name in ("ds", "ti", "task_instance", "run_id", "macros", "var", "conn", "inlets", "outlets",
                                        "prev_data_interval_start_success", "templates_dict")
                      if name in kwargs)

    @task
    def current():
        return get_current_context()["ti"].task_id

    by_name()
    keywords()
    current()


context()
