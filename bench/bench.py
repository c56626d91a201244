"""Measure Ostro and Airflow side by side, in one run, on this machine.

What is measured, per case: (last end - first queued - the sum of the function alone) / number of tasks, on the wall
clock, from the task instances both report over the same REST API; the function's own time is what the tasks wrote down
themselves. The systems take turns, so that a machine that drifts hits both, and the one whose turn it is not stands
still (SIGSTOP): neither pays for what the other does when it is idle. Between them, floor.py says what the machine
itself takes for such tasks at that moment. Medians and the ratio are printed.
"""

import argparse
import contextlib
import datetime
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time

import dags
import systems


def parse(stamp):
    return datetime.datetime.fromisoformat(stamp.replace("Z", "+00:00")).timestamp()


def overhead(instances, ledger):
    """Milliseconds a task that are not the function itself."""
    queued = min(parse(i["queued_when"] or i["scheduled_when"]) for i in instances)
    ended = max(parse(i["end_date"]) for i in instances)
    alone = sum(float(line) for line in ledger.read_text().split())
    return (ended - queued - alone) / len(instances) * 1000


def fdatasync_ms(folder, rounds=200):
    """Median time of a 4 KiB write and fdatasync where the database lives: the floor of any durable commit."""
    path, times = pathlib.Path(folder) / "fdatasync-probe", []
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    os.posix_fallocate(fd, 0, 1 << 20)
    for i in range(rounds):
        started = time.perf_counter()
        os.pwrite(fd, b"x" * 4096, (i % 256) * 4096)
        os.fdatasync(fd)
        times.append(time.perf_counter() - started)
    os.close(fd)
    path.unlink()
    return statistics.median(times) * 1000


def floor_ms(python, folder, dag_id):
    """What floor.py takes a task, with the interpreter that runs Ostro's tasks."""
    program = pathlib.Path(__file__).with_name("floor.py")
    done = subprocess.run([python, "-B", program, folder, dag_id], capture_output=True, text=True, check=True)
    return float(done.stdout)


def first_task(system, dag_id):
    """Seconds from starting the system's processes to the end of the first task of a run triggered as soon as possible."""
    started = time.monotonic()
    system.start()
    if hasattr(system, "started"):  # not counting the making of its database
        started = system.started
    system.unpause(dag_id)
    system.run(dag_id)
    return time.monotonic() - started


def measure(system, dag_id, tasks, ledger, results):
    """One counted run of one DAG on one system."""
    before = system.commits() if hasattr(system, "commits") else None
    used = system.processor() if hasattr(system, "processor") else {}
    run_id, instances = system.run(dag_id)
    for part, time_after in (system.processor() if used else {}).items():
        results.setdefault((dag_id, part), []).append((time_after - used[part]) / tasks)
    if len(instances) != tasks:
        sys.exit(f"{system.name}: {len(instances)} task instances, expected {tasks}")
    results.setdefault((dag_id, system.name), []).append(overhead(instances, ledger / f"{dag_id}-{run_id}"))
    if before is not None:
        results.setdefault((dag_id, "commits"), []).append((system.commits() - before) / tasks)


@contextlib.contextmanager
def alone(system, subjects):
    """Let the other systems stand still meanwhile."""
    others = [one for one in subjects if one is not system]
    for one in others:
        one.freeze()
    try:
        time.sleep(0.5)
        yield
    finally:
        for one in others:
            one.thaw()
        time.sleep(0.5)


ONE = '''
from datetime import datetime
from airflow.decorators import dag, task

@dag(schedule=None, start_date=datetime(2024, 1, 1))
def one():
    @task
    def hello():
        return 1
    hello()
one()
'''

LABELS = {
    "fibo10": "(a)  40 sequential tasks of fibo(10)",
    "fibo33": "(b)  10 sequential tasks of fibo(33)",
    "fibo10_heavy": "(a2) as (a), mlflow+sklearn+pandas+boto3 imported by the file",
}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ostro", required=True, help="the binary")
    parser.add_argument("--python", required=True, help="interpreter for Ostro's tasks, with the heavy packages")
    parser.add_argument("--airflow", help="environment that has Airflow; without it only Ostro is measured")
    parser.add_argument("--postgres", help="folder of PostgreSQL's server programs")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--idle", type=float, default=75, help="seconds of quiet before memory is read")
    parser.add_argument("--cases", default=",".join(LABELS), help="which of %s" % ", ".join(LABELS))
    parser.add_argument("--out", help="also write the report to this file")
    args = parser.parse_args()

    report = []

    def say(line=""):
        print(line, flush=True)
        report.append(line)

    with tempfile.TemporaryDirectory(prefix="ostro-bench-") as folder:
        os.chmod(folder, 0o755)
        root = pathlib.Path(folder)
        ledger = root / "ledger"
        ledger.mkdir()
        subjects = [systems.Ostro(root / "ostro", args.ostro, args.python)]
        if args.airflow:
            subjects.append(systems.Airflow(root / "airflow", args.airflow, args.postgres))
        head(say, folder)
        results, first, idle = {}, {}, {}
        try:
            for system in subjects:
                (system.dags / "one.py").write_text(ONE)
                first[system.name] = first_task(system, "one")
                time.sleep(args.idle)
                idle[system.name] = system.pss() / 1e6
                cases = dags.write(system.dags, ledger, args.cases.split(","))
            for system in subjects:
                for dag_id in cases:
                    system.unpause(dag_id)
            for dag_id, tasks in cases.items():
                for turn in range(args.rounds + 1):
                    for system in subjects:
                        with alone(system, subjects):
                            if turn == 0:
                                system.run(dag_id)  # warm-up, not counted
                            else:
                                measure(system, dag_id, tasks, ledger, results)
                    if turn > 0:
                        with alone(None, subjects):
                            results.setdefault((dag_id, "floor"), []).append(floor_ms(args.python, folder, dag_id))
        finally:
            for system in subjects:
                system.stop()
    table(say, results, first, idle, [s.name for s in subjects])
    if args.out:
        pathlib.Path(args.out).write_text("\n".join(report) + "\n")


def head(say, folder):
    """Say on which machine, when and at which commit it was measured, and how fast its disk is."""
    python = platform.python_version()
    say(f"machine: {os.cpu_count()} cores, {platform.machine()}, Linux {platform.release()}, Python {python}")
    say(f"date:    {datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d %H:%M} UTC, commit {commit()}")
    say(f"fdatasync of 4 KiB: p50 {fdatasync_ms(folder):.3f} ms")


def table(say, results, first, idle, names):
    say()
    say("floor: a bare Python process that forks a child a task, with a durable write before and after each; nothing else")
    say()
    heads = "".join(f"{name:>24}" for name in [*names, "floor"])
    say(f"{'overhead a task, ms (median, min–max)':<66}{heads}{'ratio':>10}{'commits':>9}")
    for dag_id, label in LABELS.items():
        if (dag_id, names[0]) not in results:
            continue
        cells, medians = "", []
        for name in [*names, "floor"]:
            values = results[dag_id, name]
            medians.append(statistics.median(values))
            cells += f"{medians[-1]:>10.2f} ({min(values):.2f}–{max(values):.2f})".rjust(24)
        ratio = f"{medians[1] / medians[0]:.0f}×" if len(names) > 1 else ""
        say(f"{label:<66}{cells}{ratio:>10}{statistics.median(results[dag_id, 'commits']):>9.2f}")
    processor(say, results)
    measured = (("(g)  idle memory of all processes (PSS)", idle, "MB"), ("(g)  start to first task done", first, "s"))
    for label, values, unit in measured:
        cells = "".join(f"{values[n]:>21.2f} {unit:<2}" for n in names)
        ratio = f"{values[names[1]] / values[names[0]]:.0f}×" if len(names) > 1 else ""
        say(f"{label:<66}{cells}{'':>24}{ratio:>10}")


def processor(say, results):
    """Say where Ostro's processor time goes: what a task takes is at least that, shared among the cores there are."""
    parts = ("server", "worker", "hosts", "tasks")
    say()
    say(f"{'ostro: processor time a task, ms (median)':<66}" + "".join(f"{one:>12}" for one in (*parts, "sum")))
    for dag_id, label in LABELS.items():
        if (dag_id, parts[0]) in results:
            medians = [statistics.median(results[dag_id, part]) for part in parts]
            say(f"{label:<66}" + "".join(f"{one:>12.2f}" for one in (*medians, sum(medians))))
    say()


def commit():
    found = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    return found.stdout.strip() or "unknown"


if __name__ == "__main__":
    main()
