"""Parses and runs Airflow's own example DAGs, as its packages install them, on Ostro, and writes a table of every file.

The interpreter is that of Airflow's environment, which has what the examples import (pendulum, httpx, the providers).
Nothing of Airflow is copied into this repository: the files are read where pip has put them.
"""

import argparse
import concurrent.futures
import datetime
import json
import os
import pathlib
import platform
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.parse

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), str(ROOT / "bench")]

import observe  # noqa: E402
import systems  # noqa: E402

# Why a DAG is parsed and not run: what it needs is not on this machine, or it waits for what nobody does here.
NOT_RUN = json.loads((HERE / "examples_not_run.json").read_text())


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--airflow", required=True, help="Airflow's environment")
    parser.add_argument("--ostro", required=True, help="the program")
    parser.add_argument("--out", help="where the table goes; without it the files are parsed and listed, and nothing runs")
    args = parser.parse_args()
    root = pathlib.Path(tempfile.mkdtemp(prefix="examples-"))
    python = pathlib.Path(args.airflow, "bin", "python").absolute()
    os.environ["OSTRO_COMPAT"] = "airflow3"
    os.environ["OSTRO_SCHEDULER_USE_JOB_SCHEDULE"] = "false"
    ostro = systems.Ostro(root, os.path.abspath(args.ostro), str(python))
    for name, folder in folders(python).items():
        shutil.copytree(folder, ostro.dags / name, ignore=shutil.ignore_patterns("__pycache__"))
    ostro.start()
    try:
        server = observe.Server("http://127.0.0.1:%d" % ostro.port, ostro.token, every=0.1, settle=0)
        version = subprocess.run([python, "-c", "import importlib.metadata as m; print(m.version('apache-airflow-core'))"],
                                 check=True, capture_output=True, text=True).stdout.strip()
        if not args.out:
            print("\n".join(listing(server, ostro.dags)))
            return
        lines, bad = table(server, ostro.dags)
    finally:
        ostro.stop()
        shutil.rmtree(root, ignore_errors=not args.out)
    head = ["machine: %d cores, %s, Python %s" % (os.cpu_count(), platform.machine(), platform.python_version()),
            "date:    %s; Airflow's example DAGs of %s, from its packages, on Ostro" % (
                datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"), version), ""]
    pathlib.Path(args.out).write_text("\n".join(head + lines) + "\n")
    print("\n".join(lines[-3:]))
    if bad:
        raise SystemExit("\n".join(bad))


def folders(python):
    """Return the folders of example DAGs that pip has installed: core's and the standard provider's."""
    ask = "import importlib.util as u; print(u.find_spec('airflow').submodule_search_locations[0])"
    base = pathlib.Path(subprocess.run([python, "-c", ask], check=True, capture_output=True, text=True).stdout.strip())
    return {"core": base / "example_dags", "standard": base / "providers" / "standard" / "example_dags"}


def parsed(server, dags):
    """Return every file, the import error of each that has one, and the DAGs of the others."""
    paths = sorted(str(path.relative_to(dags)) for path in dags.rglob("*.py") if path.name != "__init__.py")
    known = server.until("the files to be read", _settler(server), 300)
    errors = {one["filename"]: one["stack_trace"].strip().splitlines()[-1]
              for one in server.all("/api/v2/importErrors", "import_errors")}
    by_file = {}
    for one in known:
        by_file.setdefault(one["relative_fileloc"], []).append(one["dag_id"])
    return paths, errors, by_file


def listing(server, dags):
    """Return a line for each file: its DAGs, or why it does not parse."""
    paths, errors, by_file = parsed(server, dags)
    return ["%s: %s" % (path, errors.get(path) or " ".join(sorted(by_file.get(path, []))) or "no DAG") for path in paths]


def table(server, dags):
    """Return the lines of the table, and what went wrong."""
    paths, errors, by_file = parsed(server, dags)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        every = [dag_id for ids in by_file.values() for dag_id in ids]
        ran = dict(zip(every, pool.map(lambda dag_id: run(server, dag_id), every)))
    lines, bad = [], []
    for path in paths:
        if path in errors:
            lines.append("%-72s does not parse: %s" % (path, errors[path]))
            bad.append(lines[-1])
        elif path not in by_file:
            lines.append("%-72s parses; declares no DAG" % path)
        for dag_id in sorted(by_file.get(path, [])):
            lines.append("%-72s parses; %s: %s" % (path, dag_id, ran[dag_id]))
            if ran[dag_id].startswith("unexpected"):
                bad.append(lines[-1])
    runs = [one for one in ran.values() if one.startswith(("success", "failed, as"))]
    lines += ["", "%d files, %d of them do not parse; %d DAGs, %d end as they are meant to, %d not run, each with its reason" % (
        len(paths), len(errors), len(ran), len(runs), len(ran) - len(runs))]
    return lines, bad


def _settler(server):
    """Return a probe that gives the DAGs once their number has stopped growing."""
    last, times = 0, 0

    def probe():
        nonlocal last, times
        found = server.all("/api/v2/dags", "dags")
        last, times = len(found), times + 1 if len(found) == last else 0
        return found if found and times > 100 else None
    return probe


def run(server, dag_id):
    """Run a DAG and say how it ended."""
    why = NOT_RUN.get(dag_id)
    if why and not why.startswith("fails"):
        return "not run: " + why
    try:
        server.call("PATCH", "/api/v2/dags/" + dag_id, {"is_paused": False})
        ended = trigger(server, dag_id)
    except (RuntimeError, urllib.error.HTTPError) as fault:
        return "unexpected: %s" % fault
    if ended["state"] == "failed" and why:
        return "failed, as it is meant to: " + why
    if ended["state"] == "success":
        return "success"
    tasks = server.all("/api/v2/dags/%s/dagRuns/%s/taskInstances" % (dag_id, ended["dag_run_id"]), "task_instances")
    failed = ["%s: %s" % (one["task_id"], (one.get("ostro") or {}).get("reason") or one.get("note") or one["state"])
              for one in tasks if one["state"] == "failed"]
    return "unexpected: %s (%s)" % (ended["state"], "; ".join(failed))


def trigger(server, dag_id):
    now = datetime.datetime.now(datetime.timezone.utc).isoformat()
    path = "/api/v2/dags/%s/dagRuns" % dag_id
    run_id = server.call("POST", path, {"logical_date": now})["dag_run_id"]
    run_path = "%s/%s" % (path, urllib.parse.quote(run_id, safe=""))

    def ended():
        one = server.call("GET", run_path)
        return one if one["state"] in observe.ENDED else None
    return server.until(dag_id, ended, 150)



if __name__ == "__main__":
    main()
