"""Learned preload: which modules a task imported that its host did not have, and importing them in the next host.

People import torch inside the task, so that the file parses fast. Every attempt then pays for it again, unless a host
that has the module loaded forks the next one.
"""

import importlib
import os
import sys

_HEAVY = 20
"""From so many new modules on, a top-level package is worth preloading (a cached import costs about 0.2 ms a module)."""


def snapshot():
    """Return how many modules are loaded and which; give it to ``learned`` later."""
    return frozenset(sys.modules)


def learned(before, bundle_path):
    """Return the large top-level packages imported since ``before``, in order of import; the bundle's own never.

    The bundle's modules belong to one version of it and are imported by the file when it needs them.
    """
    if len(sys.modules) - len(before) < _HEAVY:
        return []
    counts = {}
    for name in list(sys.modules):
        if name not in before:
            top = name.partition(".")[0]
            counts[top] = counts.get(top, 0) + 1
    return [top for top, count in counts.items() if count >= _HEAVY and _shared(top, bundle_path)]


def import_modules(names):
    """Import each module; return those that could not be, with the reason. Whatever an import raises is kept from us."""
    failed = {}
    for name in names:
        try:
            importlib.import_module(name)
        except BaseException as err:  # SystemExit and KeyboardInterrupt of somebody's module included
            failed[name] = "%s: %s" % (type(err).__name__, err)
    return failed


def _shared(top, bundle_path):
    if top in ("__main__", "ostro", "airflow"):
        return False
    module = sys.modules.get(top)
    origin = getattr(module, "__file__", None) or next(iter(getattr(module, "__path__", [])), None)
    if not origin:
        return False
    origin, root = os.path.realpath(origin), os.path.join(os.path.realpath(bundle_path), "")
    return not origin.startswith(root) or "site-packages" in origin[len(root) :]


def warm(described, dags):
    """Import Jinja and compile the templates that need it, and make the operators' loggers, so that not every fork does."""
    from .baseoperator import BaseOperator

    for dag in dags:
        for one in getattr(dag, "tasks", ()):
            if getattr(type(one), "log", None) is BaseOperator.log:  # not an author's own
                one.log  # noqa: B018
    if any("{{" in text or "{%" in text for text in map(repr, described)):
        from . import template

        template.warm(dags)
