"""Where Python may write no bytecode the runtime keeps its own all the same, and nobody else's."""

import os
import shutil
import subprocess
import sys

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def test_the_runtime_keeps_its_bytecode_where_python_is_told_to_write_none(tmp_path):
    root, bundle = tmp_path / "runtime", tmp_path / "dags"
    for package in ("ostro", "airflow"):
        shutil.copytree(os.path.join(HERE, package), str(root / package), ignore=shutil.ignore_patterns("__pycache__"))
    bundle.mkdir()
    (bundle / "helper.py").write_text("from airflow.operators.python import PythonOperator\n")
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    env.update(PYTHONDONTWRITEBYTECODE="1", PYTHONPATH=os.pathsep.join([str(root), str(bundle)]))
    script = "import ostro.host, helper, sys; assert sys.dont_write_bytecode"
    subprocess.run([sys.executable, "-c", script], env=env, cwd=str(tmp_path), check=True)
    kept = {one.name.split(".")[0] for one in (root / "ostro" / "__pycache__").iterdir()}
    assert {"host", "comms", "finder", "python"} - kept == {"python"}
    assert any(one.name.startswith("python.") for one in (root / "ostro" / "operators" / "__pycache__").iterdir())
    assert not list(bundle.rglob("*.pyc"))
