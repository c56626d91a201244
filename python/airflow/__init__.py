"""The names Airflow DAG files import. The implementation is the package ``ostro``; ``ostro.surface`` is the whole table."""

from ostro import finder as _finder

_finder.install()

__version__ = "3.3.2"


def __getattr__(name):
    from ostro import surface

    if name == "__all__":
        return surface.names("airflow")
    if name.startswith("__"):
        raise AttributeError(name)
    if "airflow." + name in surface.MODULES:
        import importlib

        return importlib.import_module("airflow." + name)
    value = globals()[name] = surface.resolve("airflow", name)
    return value
