"""Ostro's Python runtime: the authoring model, the task runtime and the host that serves them to the Go side.

Authors import from ``airflow``, which is a thin surface over this package. Standard library only.
"""

__version__ = "0.1.0"
