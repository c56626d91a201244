# rule: a sensor that runs out of time fails without a retry; with soft_fail it is skipped
import datetime
import os

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.providers.standard.sensors.python import PythonSensor
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException


# Airflow's scheduler takes a sensor that comes back sooner than it looks for a broken one.
INTERVAL = float(os.environ.get("CONFORMANCE_INTERVAL", "1"))


def raises():
    raise ValueError("as planned")


def gives_up():
    raise AirflowFailException("as planned")


def skips():
    raise AirflowSkipException("as planned")


with DAG("sensor_timeout", schedule=None, default_args={"retries": 1, "retry_delay": datetime.timedelta(seconds=0.1),
                                                        "poke_interval": 0.1, "timeout": 0.5}):
    def sensor(name, function, **kwargs):
        PythonSensor(task_id=name, python_callable=function, **kwargs) >> EmptyOperator(task_id="after_" + name)

    sensor("poke", lambda: False)
    sensor("reschedule", lambda: False, mode="reschedule", poke_interval=INTERVAL, timeout=INTERVAL / 2)
    sensor("soft", lambda: False, soft_fail=True)
    sensor("soft_reschedule", lambda: False, soft_fail=True, mode="reschedule", poke_interval=INTERVAL, timeout=INTERVAL / 2)
    sensor("raising", raises, timeout=30)
    sensor("raising_soft", raises, soft_fail=True, timeout=30)
    sensor("failing_soft", gives_up, soft_fail=True, timeout=30)
    sensor("skipping", skips, timeout=30)
    sensor("never_fail", raises, never_fail=True, timeout=30)
    sensor("silent", raises, silent_fail=True)
