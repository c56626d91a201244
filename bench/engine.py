"""Measure what the engine takes where there are many: instances of a task, tasks, runs, waits, schedules, files.

Each case runs on a fresh installation of Ostro, on SQLite and on PostgreSQL, over the REST API, with the durable settings
it has by default. Times are wall clock, medians of the rounds; what the machine takes for a durable write is said first.
"""

import argparse
import datetime
import json
import os
import pathlib
import statistics
import subprocess
import tempfile
import time

import bench
import systems

HEAD = """
from datetime import datetime, timedelta, timezone
from airflow.sdk import DAG, task
from airflow.providers.standard.operators.empty import EmptyOperator

START = datetime(2024, 1, 1, tzinfo=timezone.utc)
"""

WIDE = HEAD + """
with DAG("wide", schedule=None, start_date=START, max_active_tasks=100000):
    @task
    def numbers():
        return list(range({n}))

    @task
    def one(x):
        return x

    @task
    def count(values):
        return sum(1 for _ in values)

    count(one.expand(x=numbers()))
"""

WIDE_EMPTY = HEAD + """
with DAG("wide", schedule=None, start_date=START, max_active_tasks=100000):
    @task
    def numbers():
        return [{{"doc": str(i)}} for i in range({n})]

    EmptyOperator.partial(task_id="one").expand_kwargs(numbers()) >> EmptyOperator(task_id="last")
"""

LAYERED = HEAD + """
with DAG("layered", schedule=None, start_date=START, max_active_tasks=100000):
    before = []
    for layer in range({n} // 100):
        here = [EmptyOperator(task_id="t%d_%d" % (layer, i)) for i in range(100)]
        for i, one in enumerate(before):
            one >> [here[i], here[(i + 1) % 100]]
        before = here
"""

SINGLE = HEAD + """
with DAG("single", schedule=None, start_date=START, max_active_runs=100000):
    EmptyOperator(task_id="only")
"""

WAITS = HEAD + """
from airflow.providers.standard.sensors.date_time import DateTimeSensorAsync

with DAG("waits", schedule=None, start_date=START, max_active_tasks=200000, params={{"until": ""}}):
    @task
    def moments(params):
        return [params["until"]] * {n}

    DateTimeSensorAsync.partial(task_id="wait").expand(target_time=moments())
"""

CRON = HEAD + """
for i in range({n}):
    with DAG("every_minute_%04d" % i, schedule="* * * * *", start_date=START, catchup=False, max_active_runs=4):
        EmptyOperator(task_id="only")
"""

FILE = HEAD + """
with DAG("file_{i}", schedule=None, start_date=START):
    EmptyOperator(task_id="a") >> EmptyOperator(task_id="b") >> EmptyOperator(task_id="c")
"""


def processor_seconds(pids):
    """User and system time of processes, with that of the children they have waited for."""
    total = 0
    for pid in pids:
        fields = pathlib.Path("/proc", str(pid), "stat").read_text().rsplit(")", 1)[1].split()
        total += sum(map(int, fields[11:15]))
    return total / os.sysconf("SC_CLK_TCK")


class Case:
    """A fresh installation with one DAG file, or many."""

    def __init__(self, args, database, **files):
        self.folder = tempfile.TemporaryDirectory(prefix="ostro-engine-")
        root = pathlib.Path(self.folder.name)
        os.chmod(root, 0o755)
        settings = {"OSTRO_SCHEDULER_MAX_MAP_LENGTH": "200000"}
        self.postgres = None
        if database == "postgresql":
            (root / "db").mkdir()
            self.postgres, port = systems.start_postgres(pathlib.Path(args.postgres), root / "db", "ostro")
            settings["OSTRO_DATABASE_URL"] = f"postgresql://ostro@127.0.0.1:{port}/ostro?sslmode=disable"
        self.system = systems.Ostro(root / "ostro", args.ostro, args.python, settings)
        for name, text in files.items():
            (self.system.dags / (name + ".py")).write_text(text)

    def __enter__(self):
        self.system.start()
        return self.system

    def __exit__(self, *_):
        self.system.stop()
        if self.postgres:
            self.postgres.terminate()
            self.postgres.wait(20)
        self.folder.cleanup()


def whole_run(system, dag_id):
    """Seconds from asking for a run to being told that it has ended."""
    asked = time.time()
    run_id = system.call("POST", f"/api/v2/dags/{dag_id}/dagRuns", {"logical_date": None})["dag_run_id"]
    path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}"
    ended = systems.wait_for("the end of " + dag_id, lambda: (r := system.call("GET", path))["end_date"] and r, 600, every=0.005)
    took = time.time() - asked
    if ended["state"] != "success":
        raise SystemExit(f"{dag_id} ended as {ended['state']}")
    return took


def repeated(args, database, text, dag_id):
    with Case(args, database, dag=text) as system:
        system.unpause(dag_id)
        times = [whole_run(system, dag_id) for _ in range(args.rounds + 1)][1:]
    return statistics.median(times), f"{statistics.median(times):.2f} s ({min(times):.2f}–{max(times):.2f})"


def wide(n):
    return lambda args, database: repeated(args, database, WIDE.format(n=n), "wide")[1]


def wide_empty(args, database):
    return repeated(args, database, WIDE_EMPTY.format(n=10000), "wide")[1]


def layered(n):
    def measure(args, database):
        median, text = repeated(args, database, LAYERED.format(n=n), "layered")
        return f"{text}, {n / median:,.0f} tasks/s"
    return measure


def triggers(args, database):
    with Case(args, database, dag=SINGLE) as system:
        system.unpause("single")
        said = subprocess.run(
            [args.load, "-url", f"http://127.0.0.1:{system.port}", "-token", system.token, "-dag", "single",
             "-for", f"{args.seconds}s"],
            capture_output=True, text=True, check=True)
    got = json.loads(said.stdout)
    rate = got["runs"] / got["seconds"]
    return f"{rate:,.0f}/s to success; answers p50 {got['p50_ms']:.1f} ms, p95 {got['p95_ms']:.1f} ms"


def waits(args, database):
    n = args.waits
    with Case(args, database, dag=WAITS.format(n=n)) as system:
        system.unpause("waits")
        now = datetime.datetime.now(datetime.timezone.utc)
        until = now + datetime.timedelta(seconds=30 + n / 50)  # each begins as a process of its own
        run_id = system.call("POST", "/api/v2/dags/waits/dagRuns",
                             {"logical_date": None, "conf": {"until": until.isoformat()}})["dag_run_id"]
        path = f"/api/v2/dags/waits/dagRuns/{run_id}"
        page = path + "/taskInstances?limit=1&state="
        systems.wait_for("all waits", lambda: system.call("GET", page + "deferred")["total_entries"] == n, 600, every=0.5)
        memory = system.pss() / 1e6
        left = (until - datetime.datetime.now(datetime.timezone.utc)).total_seconds()
        systems.wait_for("the end", lambda: system.call("GET", path)["end_date"], 600, every=0.2)
        ends = []
        for offset in range(0, n, 1000):
            found = system.call("GET", f"{path}/taskInstances?limit=1000&offset={offset}")["task_instances"]
            ends += [bench.parse(i["end_date"]) - until.timestamp() for i in found if i["task_id"] == "wait"]
    ends.sort()
    return (f"{n} of them, {memory:.0f} MB while they wait (all were in place {left:.0f} s before); "
            f"ended after p50 {ends[len(ends) // 2] * 1000:.0f} ms, p99 {ends[len(ends) * 99 // 100] * 1000:.0f} ms")


def cron(args, database):
    with Case(args, database, dag=CRON.format(n=5000)) as system:
        known = lambda: system.call("GET", "/api/v2/dags?limit=1")["total_entries"] == 5000  # noqa: E731
        systems.wait_for("all DAGs", known, 300, every=0.5)
        system.call("PATCH", "/api/v2/dags?dag_id_pattern=~", {"is_paused": False})
        time.sleep(90)
        before, at = processor_seconds(system.roots()), time.monotonic()
        time.sleep(120)
        busy = (processor_seconds(system.roots()) - before) / (time.monotonic() - at)
        delays = []
        for offset in range(0, 10000, 1000):
            found = system.call("GET", f"/api/v2/dags/~/dagRuns?limit=1000&offset={offset}&order_by=-run_after")["dag_runs"]
            delays += [bench.parse(r["start_date"]) - bench.parse(r["run_after"]) for r in found if r["start_date"]]
    delays.sort()
    return (f"{len(delays)} runs started after p50 {delays[len(delays) // 2] * 1000:.0f} ms, "
            f"p99 {delays[len(delays) * 99 // 100] * 1000:.0f} ms; {busy * 100:.0f} % of a core")


def files(args, database):
    texts = {f"file_{i}": FILE.format(i=i) for i in range(1000)}
    with Case(args, database, **texts) as system:
        started = time.monotonic()
        known = lambda: system.call("GET", "/api/v2/dags?limit=1")["total_entries"] == 1000  # noqa: E731
        systems.wait_for("all files", known, 900, every=0.1)
        first = time.monotonic() - started
        time.sleep(10)
        before = processor_seconds(system.roots())
        (system.dags / "note.md").write_text("nothing that a DAG file reads")
        time.sleep(5)
        look = processor_seconds(system.roots()) - before
    return f"first {first:.1f} s; a look at all of them after a change that concerns none {look * 1000:.0f} ms of processor time"


CASES = {
    "wide100": ("(c) 1 → 100 Python → 1", wide(100)),
    "wide1000": ("(c) 1 → 1 000 Python → 1", wide(1000)),
    "wide_empty": ("(c) 1 → 10 000 no-op → 1", wide_empty),
    "layered100": ("(d) 100 no-ops in 1 layer", layered(100)),
    "layered1000": ("(d) 1 000 no-ops in 10 layers", layered(1000)),
    "layered": ("(d) 10 000 no-ops in 100 layers", layered(10000)),
    "triggers": ("(e) triggers over HTTP of a no-op DAG", triggers),
    "waits": ("(h) deferred waits of a sensor, one process each before", waits),
    "cron": ("(i) 5 000 DAGs on cron, each every minute", cron),
    "files": ("(j) 1 000 DAG files", files),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ostro", required=True, help="the binary")
    parser.add_argument("--load", required=True, help="the program of bench/load")
    parser.add_argument("--python", required=True, help="interpreter for tasks")
    parser.add_argument("--postgres", help="folder of PostgreSQL's server programs; without it only SQLite is measured")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=60, help="how long to trigger over HTTP")
    parser.add_argument("--waits", type=int, default=2000, help="deferred task instances")
    parser.add_argument("--cases", default=",".join(CASES), help="which of %s" % ", ".join(CASES))
    parser.add_argument("--out", help="also write the report to this file")
    args = parser.parse_args()
    report = []

    def say(line=""):
        print(line, flush=True)
        report.append(line)
        if args.out:
            pathlib.Path(args.out).write_text("\n".join(report) + "\n")

    with tempfile.TemporaryDirectory() as folder:
        bench.head(say, folder)
    say()
    for name in args.cases.split(","):
        label, measure = CASES[name]
        for database in ["sqlite", "postgresql"] if args.postgres else ["sqlite"]:
            say(f"{label:<60}{database:<12}{measure(args, database)}")


if __name__ == "__main__":
    main()
