import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.dirname(HERE)]

from ostro import context_stack, finder, settings  # noqa: E402

finder.install()

import pytest  # noqa: E402


@pytest.fixture(autouse=True)
def _fresh_file(monkeypatch):
    """Every test is a file of its own: no open DAG, Airflow 3's defaults, no variables from outside."""
    for name in [name for name in os.environ if name.startswith(("AIRFLOW_", "AIRFLOW__", "OSTRO_"))]:
        monkeypatch.delenv(name)
    context_stack.reset()
    settings.configure()
    yield
    context_stack.reset()
    settings.configure()
