"""Ostro's Python runtime: the authoring model, the task runtime and the host that serves them to the Go side.

Authors import from ``airflow``, which is a thin surface over this package. Standard library only.
"""

__version__ = "0.1.0"

import os as _os
import sys as _sys

if _sys.dont_write_bytecode:
    from .bytecode import keep as _keep

    _keep(_os.path.dirname(__path__[0]))
