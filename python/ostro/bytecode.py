"""Keeps the bytecode of this runtime beside it, also where Python is told not to (PYTHONDONTWRITEBYTECODE).

Images of containers often tell it so. Then every host, and every program that a task starts, would compile the whole runtime
anew, which takes three times as long as all the rest of its start. The runtime's folder is Ostro's own; what authors write
is left as they want it.
"""

import os
import sys
from importlib.machinery import SOURCE_SUFFIXES, FileFinder, SourceFileLoader


class _Loader(SourceFileLoader):
    """Loads a module of the runtime."""

    def get_code(self, fullname):
        former, sys.dont_write_bytecode = sys.dont_write_bytecode, False
        try:
            return super().get_code(fullname)
        finally:
            sys.dont_write_bytecode = former


def keep(root):
    """Have modules in folders below ``root`` keep their bytecode."""
    make = FileFinder.path_hook((_Loader, SOURCE_SUFFIXES))

    def ours(path):
        return path == root or path.startswith(root + os.sep)

    def hook(path):
        if not ours(path):
            raise ImportError("not a folder of the runtime", path=path)
        return make(path)

    sys.path_hooks.insert(0, hook)
    for path in list(sys.path_importer_cache):
        if ours(path):
            del sys.path_importer_cache[path]
