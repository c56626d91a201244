# rule: sensors of time and weekday that are due already
# run: {"logical_date": "2024-02-03T00:00:00Z"}
import datetime

from airflow.providers.standard.operators.datetime import BranchDateTimeOperator
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.providers.standard.operators.weekday import BranchDayOfWeekOperator
from airflow.providers.standard.sensors.bash import BashSensor
from airflow.providers.standard.sensors.date_time import DateTimeSensor
from airflow.providers.standard.sensors.time_delta import TimeDeltaSensor
from airflow.providers.standard.sensors.weekday import DayOfWeekSensor
from airflow.sdk import DAG

with DAG("sensors_time", schedule=None):
    DateTimeSensor(task_id="date_time", target_time="{{ logical_date + macros.timedelta(days=1) }}")
    TimeDeltaSensor(task_id="delta", delta=datetime.timedelta(days=1))
    DayOfWeekSensor(task_id="saturday", week_day="Saturday", use_task_logical_date=True)
    BashSensor(task_id="bash", bash_command="exit 0", poke_interval=0.1)
    BranchDateTimeOperator(task_id="by_date", target_lower=datetime.datetime(2024, 2, 1), target_upper=datetime.datetime(2024, 3, 1),
                           use_task_logical_date=True, follow_task_ids_if_true="yes", follow_task_ids_if_false="no") >> [
        EmptyOperator(task_id="yes"), EmptyOperator(task_id="no")]
    BranchDayOfWeekOperator(task_id="by_day", week_day={"Saturday", "Sunday"}, use_task_logical_date=True,
                            follow_task_ids_if_true="weekend", follow_task_ids_if_false="workday") >> [
        EmptyOperator(task_id="weekend"), EmptyOperator(task_id="workday")]
