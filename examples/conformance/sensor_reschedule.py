# rule: a sensor that reschedules uses up one try
import os

from airflow.providers.standard.sensors.python import PythonSensor
from airflow.sdk import DAG, PokeReturnValue, task


# Airflow's scheduler takes a sensor that comes back sooner than it looks for a broken one.
INTERVAL = float(os.environ.get("CONFORMANCE_INTERVAL", "1"))


def second_look(ti, task_reschedule_count):
    return task_reschedule_count >= 1


with DAG("sensor_reschedule", schedule=None):
    PythonSensor(task_id="reschedules", mode="reschedule", poke_interval=INTERVAL, timeout=600, python_callable=second_look)
    PythonSensor(task_id="pokes", mode="poke", poke_interval=0.1, timeout=60, python_callable=lambda: True)

    @task.sensor(poke_interval=0.1, timeout=60, mode="reschedule")
    def decorated():
        return PokeReturnValue(is_done=True, xcom_value={"found": 1})

    @task
    def after(value):
        return value

    after(decorated())
