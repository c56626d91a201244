"""``@asset`` and ``@asset.multi``: a function that makes an asset, or several, as a DAG of one task."""

import inspect

from . import live
from .assets import Asset, AssetAll

# What a function may ask for that is no asset.
GIVEN = ("self", "context", "outlet_events")


class MultiAssetDefinition(AssetAll):
    """What ``@asset.multi`` makes of a function: all its outlets together."""

    def __init__(self, name, outlets):
        super().__init__(*outlets)
        self.objects, self.name = list(outlets), name


def asset(*args, **kwargs):
    """Make a DAG of one task that updates an asset, named after the function unless ``name=`` is given."""
    def make(function):
        options = dict(kwargs)
        _refuse_nested(function)
        name = options.pop("name", None) or function.__name__
        uri = options.pop("uri", None)
        made = Asset(name=name, uri=None if uri is None else str(uri), group=options.pop("group", None),
                     extra=options.pop("extra", None), watchers=options.pop("watchers", None))
        made.dag = _dag(function, name, options, [made], made)
        return made

    return make(args[0]) if args and callable(args[0]) else make


def _multi(*, outlets, **kwargs):
    """Make a DAG of one task that updates several assets."""
    def make(function):
        _refuse_nested(function)
        if not outlets:
            raise ValueError("no outlets provided")
        made = MultiAssetDefinition(function.__name__, outlets)
        made.dag = _dag(function, function.__name__, dict(kwargs), list(outlets), made)
        return made

    return make


asset.multi = _multi


def _refuse_nested(function):
    function = getattr(function, "function", function)
    if getattr(function, "__name__", "") != getattr(function, "__qualname__", ""):
        raise ValueError("nested function not supported")


def _dag(function, name, options, outlets, made):
    from .dag import DAG
    from .decorators import task

    options["catchup"] = False
    with DAG(options.pop("dag_id", None) or name, schedule=options.pop("schedule", None), **options) as dag:
        if hasattr(function, "override"):  # decorated with @task or one of its kind: only the outlets are ours
            function.override(outlets=outlets)()
        else:
            wanted = _wanted(function)
            task(task_id=function.__name__, outlets=outlets, inlets=[Asset.ref(name=word) for word in wanted])(
                _body(function, made, wanted))()
    return dag


def _wanted(function):
    """Return the names of the assets a function asks for: its arguments without a default."""
    wanted = []
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is parameter.VAR_POSITIONAL:
            raise TypeError("wildcard '*%s' is not supported in @asset" % name)
        if parameter.kind is parameter.VAR_KEYWORD:
            raise TypeError("wildcard '**%s' is not supported in @asset" % name)
        if parameter.default is not parameter.empty:
            continue
        if parameter.kind is parameter.POSITIONAL_ONLY:
            raise TypeError("positional-only argument '%s' without a default is not supported in @asset" % name)
        if name not in GIVEN:
            wanted.append(name)
    return wanted


def _body(function, made, wanted):
    def run(**context):
        values = {"self": made, "context": context, "outlet_events": context["outlet_events"]}
        asked = [name for name, parameter in inspect.signature(function).parameters.items()
                 if parameter.default is parameter.empty]
        return function(**{name: values[name] if name in values else _fetched(name) for name in asked})

    run.__name__ = run.__qualname__ = function.__name__
    run.__doc__, run.__module__ = function.__doc__, function.__module__
    return run


def _fetched(name):
    found = live.request({"type": "GetAssetByName", "name": name})
    return Asset(name=found["name"], uri=found["uri"], group=found.get("group"), extra=found.get("extra"))
