# rule: the dates of scheduled runs every timedelta, with catchup
# scheduled: 3
import datetime

from airflow.sdk import dag, task


@dag(schedule=datetime.timedelta(hours=12), start_date=datetime.datetime(2024, 1, 1), end_date=datetime.datetime(2024, 1, 2),
     catchup=True)
def scheduled_delta():
    @task
    def dates(ds=None, dag_run=None, data_interval_start=None, data_interval_end=None):
        return [ds, str(dag_run.logical_date), str(data_interval_start), str(data_interval_end)]

    dates()


scheduled_delta()
