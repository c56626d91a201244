"""The module of a DAG file has a name below this one, and any program that a task starts can import it under that name.

A task finds the module loaded. A worker of a multiprocessing pool that was started anew (spawn, forkserver, loky), and is
sent one of the file's functions by name, does not: there the file of the task above it is imported again, the same version.
"""

import sys
from importlib.machinery import ModuleSpec


class _Finder:
    @staticmethod
    def find_spec(fullname, path=None, target=None):
        if not fullname.startswith(__name__ + "."):
            return None
        from ostro import dagmodule

        place = dagmodule.place_of(fullname)
        return ModuleSpec(fullname, _Loader, origin=place["path"]) if place is not None else None


class _Loader:
    @staticmethod
    def create_module(spec):
        return None

    @staticmethod
    def exec_module(module):
        from ostro import dagmodule

        dagmodule.execute(module, dagmodule.place_of(module.__name__))


__path__ = []
sys.meta_path.append(_Finder)
