"""Observes examples/conformance on genuine Airflow and compares with the goldens, or renews them.

One instance of Airflow (LocalExecutor on PostgreSQL, as the benchmark starts it) runs every file. A golden holds what
Airflow did; Ostro is compared with it by the Go test of this folder, without Airflow.
"""

import argparse
import difflib
import json
import os
import pathlib
import platform
import shutil
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), str(ROOT / "bench")]

import observe  # noqa: E402
import systems  # noqa: E402

# A busy machine must not decide: with Airflow's defaults its API runs out of connections under a dozen askers, and tasks
# that it keeps waiting for five seconds fail.
PATIENT = {
    "CONFORMANCE_INTERVAL": "30",
    "AIRFLOW__CORE__PARALLELISM": "6",
    "AIRFLOW__DATABASE__SQL_ALCHEMY_POOL_SIZE": "40",
    "AIRFLOW__DATABASE__SQL_ALCHEMY_MAX_OVERFLOW": "20",
    "AIRFLOW__DAG_PROCESSOR__DAG_FILE_PROCESSOR_TIMEOUT": "300",
    "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "120",
}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--airflow", required=True, help="Airflow's environment")
    parser.add_argument("--postgres", required=True, help="the folder of PostgreSQL's programs")
    parser.add_argument("--renew", action="store_true", help="write the goldens instead of comparing with them")
    parser.add_argument("--only", default="", help="some files, by name, with commas between")
    parser.add_argument("--keep", action="store_true", help="leave Airflow's folder behind")
    args = parser.parse_args()
    only = set(args.only.split(",")) - {""}
    root = pathlib.Path(tempfile.mkdtemp(prefix="conformance-"))
    found = root / "found"
    found.mkdir()
    version = subprocess.run([pathlib.Path(args.airflow) / "bin" / "airflow", "version"], check=True, capture_output=True,
                             text=True, env={**os.environ, "AIRFLOW_HOME": str(root / "version")}).stdout.split()[-1]
    began = time.monotonic()
    failed = run_airflow(root, found, args.airflow, args.postgres, only)
    differing = settle(found, version, args.renew)
    count = len(list(found.glob("*.json")))
    print("machine: %d cores, %s, Python %s" % (os.cpu_count(), platform.machine(), platform.python_version()))
    print("Airflow %s: %d DAG files in %.0f s" % (version, count, time.monotonic() - began))
    if not args.keep:
        shutil.rmtree(root)
    if failed or differing:
        raise SystemExit("\n".join(failed + differing))
    print("the goldens hold" if not args.renew else "goldens written")


def run_airflow(root, found, environment, postgres, only):
    airflow = systems.Airflow(root / "airflow", environment, postgres)
    for one in observe.scenarios(ROOT / "examples" / "conformance"):
        if not only or one.dag_id in only:
            shutil.copy(one.path, airflow.dags)
    shutil.copy(ROOT / "examples" / "conformance" / "conformance_notes.py", airflow.dags)
    notes = root / "notes"
    notes.mkdir()
    os.environ.update(CONFORMANCE_NOTES=str(notes), **PATIENT)
    airflow.start()
    try:
        server = observe.Server("http://127.0.0.1:%d" % airflow.port, airflow.token, every=0.7, settle=8)
        return observe.observe_all(server, ROOT / "examples" / "conformance", notes, found, only, workers=5)
    finally:
        airflow.stop()


def settle(found, version, renew):
    """Write the goldens, or return how they differ from what was found."""
    golden, differing = HERE / "golden", []
    for path in sorted(found.glob("*.json")):
        text = json.dumps({"airflow": version, **json.loads(path.read_text())}, indent=1, ensure_ascii=False) + "\n"
        kept = golden / path.name
        if renew:
            kept.write_text(text)
        elif not kept.exists() or kept.read_text() != text:
            before = kept.read_text().splitlines() if kept.exists() else []
            differing += ["%s differs from its golden:" % path.stem,
                          *difflib.unified_diff(before, text.splitlines(), "golden", "Airflow " + version, lineterm="")]
    return differing


if __name__ == "__main__":
    main()
