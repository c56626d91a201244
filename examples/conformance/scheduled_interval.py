# rule: the dates of scheduled runs with a cron schedule and catchup
# scheduled: 3
import datetime

from airflow.sdk import dag, task


@dag(schedule="0 6 * * *", start_date=datetime.datetime(2024, 1, 1), end_date=datetime.datetime(2024, 1, 4), catchup=True)
def scheduled_interval():
    @task
    def dates(ds=None, dag_run=None, data_interval_start=None, data_interval_end=None):
        return [ds, str(dag_run.logical_date), str(data_interval_start), str(data_interval_end), str(dag_run.run_after)]

    dates()


scheduled_interval()
