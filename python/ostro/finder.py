"""The import rule for ``airflow``: every module is ours, except ``airflow.providers.*``, which may be installed packages,
and ``airflow.example_dags.*``, which are DAG files and what they share.

A genuine Airflow in the same environment is never half-imported: what we do not have is an ImportError that names the
module, who wanted it and the nearest module there is.
"""

import os
import sys
from importlib.machinery import ModuleSpec, PathFinder

_HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_PACKAGE = os.path.join(_HERE, "airflow")


class AirflowFinder:
    """A meta-path finder for ``airflow`` and everything below."""

    @classmethod
    def find_spec(cls, fullname, path=None, target=None):
        if fullname == "airflow":
            from importlib.util import spec_from_file_location

            return spec_from_file_location("airflow", os.path.join(_PACKAGE, "__init__.py"),
                                           submodule_search_locations=[_PACKAGE])
        if not fullname.startswith("airflow."):
            return None
        from . import surface

        if fullname in surface.MODULES:
            package = surface.is_package(fullname)
            spec = ModuleSpec(fullname, _Loader, origin="ostro", is_package=package)
            if package and fullname.startswith("airflow.providers"):
                spec.submodule_search_locations = installed_folders(fullname)
            return spec
        if fullname.startswith(("airflow.providers.", "airflow.example_dags")):
            parent = fullname.rpartition(".")[0]
            found = PathFinder.find_spec(fullname, installed_folders(parent) if path is None or parent == "airflow" else path)
            if found is not None:
                return found
        raise ModuleNotFoundError(_explain(fullname))


class _Module(type(sys)):
    """A module of the surface. A submodule does not take the place of a name it offers (``decorators.task_group``)."""

    def __setattr__(self, name, value):
        if isinstance(value, _Module):
            from . import surface

            if any(shown == name for _, _, shown in surface.targets(self.__name__)):
                value = surface.resolve(self.__name__, name)
        super().__setattr__(name, value)


class _Loader:
    """Makes a module whose names are looked up when they are used."""

    @staticmethod
    def create_module(spec):
        return _Module(spec.name)

    @staticmethod
    def exec_module(module):
        from . import surface

        name = module.__name__

        def __getattr__(word):
            if word == "__all__":
                return surface.names(name)
            if word.startswith("__"):
                raise AttributeError(word)
            value = surface.resolve(name, word)
            module.__dict__[word] = value
            return value

        module.__getattr__ = __getattr__
        module.__dir__ = lambda: surface.names(name)
        module.__doc__ = "Ostro's %s" % name


def installed_folders(package):
    """Return the folders of installed packages that hold parts of ``package``."""
    inner = package.replace(".", os.sep)
    out = []
    for entry in sys.path:
        folder = os.path.join(entry or os.getcwd(), inner)
        if not folder.startswith(_HERE + os.sep) and os.path.isdir(folder):
            out.append(folder)
    return out


def _explain(fullname):
    from . import absent, surface
    from .settings import nearest

    text = "no module named %r in Ostro" % fullname
    frame = sys._getframe(1)
    while frame is not None:
        filename = frame.f_code.co_filename
        if not filename.startswith("<frozen") and filename not in (__file__,) and "importlib" not in filename:
            text += ", wanted by %s:%d" % (filename, frame.f_lineno)
            break
        frame = frame.f_back
    known = absent.explain(fullname)
    if known:
        return "%s: %s" % (text, known)
    if fullname.startswith("airflow.providers."):
        package = absent.package(fullname)
        if not any(name.startswith("airflow.providers.") and absent.package(name) == package for name in surface.MODULES):
            return text + "; it comes with a provider: pip install " + package
    return text + (absent.offering(fullname, surface) or nearest(fullname, surface.MODULES))


def install():
    """Put the finder first on sys.meta_path, once."""
    if AirflowFinder not in sys.meta_path:
        sys.meta_path.insert(0, AirflowFinder)


def evict():
    """Forget modules of a genuine Airflow that were imported before the finder was there."""
    ours = sys.modules.get("airflow")
    if ours is not None and getattr(ours, "__file__", None) != os.path.join(_PACKAGE, "__init__.py"):
        for name in [name for name in sys.modules if name == "airflow" or name.startswith("airflow.")]:
            del sys.modules[name]
