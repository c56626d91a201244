"""A value that no message can carry."""

import os
import subprocess
import sys


def test_a_value_too_large_for_a_message_fails_the_task_in_words(tmp_path):
    """Over a real channel, with the real limit lowered to 1 MiB."""
    program = """
import logging, socket, sys, threading
from ostro import comms as wire
wire.MAX_SEND = 1 << 20
from airflow import DAG
from airflow.operators.python import PythonOperator
from ostro import runner
big = "é" * (600 << 10)
def push(ti):
    logging.getLogger("mine").info(big)
    ti.xcom_push("table", big)
with DAG("d", schedule=None) as dag:
    PythonOperator(task_id="returns", python_callable=lambda: big, on_failure_callback=lambda context: print("called back"))
    PythonOperator(task_id="pushes", python_callable=push)
    PythonOperator(task_id="two", python_callable=lambda: {"a": "x" * (700 << 10), "b": 1}, multiple_outputs=True)
ours, theirs = socket.socketpair()
seen = []
def drain():
    decoder = wire.Decoder()
    while True:
        data = theirs.recv(1 << 20)
        if not data:
            return
        decoder.feed(data)
        frame = decoder.next()
        while frame is not None:
            if frame["id"]:
                theirs.sendall(wire.encode({"type": "OKResponse", "ok": True}, id=frame["id"]))
            if frame["body"]["type"] == "LogRecord":
                seen.append(frame["body"]["event"][-80:])
            if frame["body"]["type"] in ("RetryTask", "SucceedTask", "TaskState"):
                body = frame["body"]
                seen.append("%s %s %d" % (body["type"], body.get("reason"), len(body.get("xcoms", ()))))
            frame = decoder.next()
thread = threading.Thread(target=drain)
thread.start()
comms = wire.Comms(ours)
for name in dag.task_ids:
    ti = {"id": "i", "attempt_id": "a", "dag_id": "d", "run_id": "r", "task_id": name, "map_index": -1, "try_number": 1}
    context = {"dag_run": {"dag_id": "d", "run_id": "r"}}
    runner.run_task({"type": "StartupDetails", "ti": ti, "ti_context": context}, comms, dag)
ours.shutdown(socket.SHUT_WR)
thread.join()
print("\\n".join(seen))
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        timeout=60,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": os.path.dirname(os.path.dirname(os.path.abspath(__file__)))},
    )
    advice = "and an XCom can have at most 1 MiB. Write the value to a file, for instance under s3://, and pass on its path 0"
    for line in (
        "RetryTask ValueError: what task 'returns' returned has 1.2 MiB as JSON, " + advice,
        "RetryTask ValueError: the XCom 'table' of task 'pushes' has 1.2 MiB as JSON, " + advice,
        "RetryTask ValueError: what task 'two' returned, with the task's other XComs, has 1.4 MiB as JSON, " + advice,
        "called back",
        "more characters, too many for one record",
    ):
        assert line in done.stdout, done.stdout[-3000:]
