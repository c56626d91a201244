"""The DAG files both systems run: the same text, so that only the orchestrator differs."""

#: A chain of sequential Python tasks; each appends how long its function alone took to a file.
CHAIN = '''
{preload}
import os, time
from datetime import datetime
from airflow import DAG
try:
    from airflow.providers.standard.operators.python import PythonOperator
except ImportError:
    from airflow.operators.python import PythonOperator


def fibo(n):
    return n if n < 2 else fibo(n - 1) + fibo(n - 2)


def work(n, ledger):
    started = time.perf_counter()
    fibo(n)
    took = time.perf_counter() - started
    fd = os.open(ledger, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    os.write(fd, ("%.9f\\n" % took).encode())
    os.close(fd)


with DAG("{dag_id}", schedule=None, start_date=datetime(2024, 1, 1), catchup=False, max_active_tasks=16) as dag:
    previous = None
    for i in range({tasks}):
        task = PythonOperator(
            task_id="t%03d" % i, python_callable=work, op_args=[{n}, "{ledger}/{dag_id}-" + "{{{{ run_id }}}}"]
        )
        if previous is not None:
            previous >> task
        previous = task
'''

#: The imports of a typical training file, for the variant with a large process.
HEAVY = "import boto3, mlflow, pandas, sklearn.ensemble"


CASES = {
    "fibo10": dict(tasks=40, n=10, preload=""),
    "fibo33": dict(tasks=10, n=33, preload=""),
    "fibo10_heavy": dict(tasks=40, n=10, preload=HEAVY),
}


def write(folder, ledger, wanted=tuple(CASES)):
    """Write the wanted benchmark DAG files; returns {dag_id: number of tasks}."""
    cases = {dag_id: CASES[dag_id] for dag_id in wanted}
    for dag_id, case in cases.items():
        (folder / (dag_id + ".py")).write_text(CHAIN.format(dag_id=dag_id, ledger=ledger, **case))
    return {dag_id: case["tasks"] for dag_id, case in cases.items()}
