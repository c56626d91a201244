"""Run parameters: a default value with a light JSON schema."""

from collections.abc import MutableMapping

from .exceptions import ParamValidationError


class ArgNotSet:
    """The type of NOTSET, which stands for "the author gave nothing"."""

    def __repr__(self):
        return "NOTSET"

    def __bool__(self):
        return False


NOTSET = ArgNotSet()

_TYPES = {
    "string": str, "integer": int, "number": (int, float), "boolean": bool, "array": (list, tuple), "object": dict,
    "null": type(None),
}


class Param:
    """One parameter; keyword arguments are its JSON schema."""

    CLASS_IDENTIFIER = "__class"

    def __init__(self, default=NOTSET, description=None, source=None, **schema):
        self.value, self.description, self.source, self.schema = default, description, source, schema

    def __repr__(self):
        return "Param(%r)" % (self.value,)

    @property
    def has_value(self):
        return self.value is not NOTSET and self.value is not None

    def dump(self):
        return {"value": None if self.value is NOTSET else self.value, "description": self.description,
                "schema": self.schema}

    def resolve(self, value=NOTSET, suppress_exception=False):
        """Return the value, checked; NOTSET takes the default."""
        final = self.value if value is NOTSET else value
        if final is NOTSET:
            if suppress_exception:
                return None
            raise ParamValidationError("no value passed and the parameter has no default value")
        fault = check_schema(final, self.schema)
        if fault and not suppress_exception:
            raise ParamValidationError(fault)
        self.value = final
        return final


def check_schema(value, schema):
    """Return what is wrong with ``value`` under ``schema`` as a sentence, or "". Unknown keywords are ignored."""
    wanted = schema.get("type")
    if wanted:
        names = wanted if isinstance(wanted, (list, tuple)) else [wanted]
        if not any(_is(value, name) for name in names):
            return "%r is not of type %s" % (value, " or ".join(repr(name) for name in names))
    if "enum" in schema and value not in schema["enum"]:
        return "%r is not one of %r" % (value, list(schema["enum"]))
    if "const" in schema and value != schema["const"]:
        return "%r was expected" % (schema["const"],)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return _check_number(value, schema)
    if isinstance(value, str):
        return _check_text(value, schema)
    if isinstance(value, (list, tuple)):
        return _check_list(value, schema)
    if isinstance(value, dict):
        return _check_object(value, schema)
    return ""


def _is(value, name):
    if name not in _TYPES:
        return True
    if isinstance(value, bool) and name in ("integer", "number"):
        return False
    if name == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _TYPES[name])


def _check_number(value, schema):
    for keyword, wrong, words in (
        ("minimum", lambda a, b: a < b, "is less than the minimum of"),
        ("maximum", lambda a, b: a > b, "is greater than the maximum of"),
        ("exclusiveMinimum", lambda a, b: a <= b, "is less than or equal to the minimum of"),
        ("exclusiveMaximum", lambda a, b: a >= b, "is greater than or equal to the maximum of"),
        ("multipleOf", lambda a, b: bool(a % b), "is not a multiple of"),
    ):
        if keyword in schema and wrong(value, schema[keyword]):
            return "%r %s %r" % (value, words, schema[keyword])
    return ""


def _check_text(value, schema):
    if len(value) < schema.get("minLength", 0):
        return "%r is too short" % (value,)
    if "maxLength" in schema and len(value) > schema["maxLength"]:
        return "%r is too long" % (value,)
    if "pattern" in schema:
        import re

        if not re.search(schema["pattern"], value):
            return "%r does not match %r" % (value, schema["pattern"])
    if schema.get("format") in ("date", "date-time"):
        from . import dates

        try:
            dates.parse(value)
        except (ValueError, IndexError):
            return "%r is not a %r" % (value, schema["format"])
    return ""


def _check_list(value, schema):
    if len(value) < schema.get("minItems", 0):
        return "%r is too short" % (value,)
    if "maxItems" in schema and len(value) > schema["maxItems"]:
        return "%r is too long" % (value,)
    if schema.get("uniqueItems") and len({repr(item) for item in value}) != len(value):
        return "%r has non-unique elements" % (value,)
    items = schema.get("items")
    for item in value if isinstance(items, dict) else ():
        fault = check_schema(item, items)
        if fault:
            return fault
    return ""


def _check_object(value, schema):
    for name in schema.get("required", ()):
        if name not in value:
            return "%r is a required property" % (name,)
    for name, inner in schema.get("properties", {}).items():
        fault = check_schema(value[name], inner) if name in value else ""
        if fault:
            return "%s: %s" % (name, fault)
    if schema.get("additionalProperties") is False:
        extra = sorted(set(value) - set(schema.get("properties", {})))
        if extra:
            return "additional properties are not allowed (%s)" % ", ".join(map(repr, extra))
    return ""


class ParamsDict(MutableMapping):
    """Parameters by name; reading one gives its value, assigning one checks it."""

    def __init__(self, given=None, suppress_exception=False):
        self._params = {}
        self.suppress_exception = suppress_exception
        for name, value in dict(given.items() if isinstance(given, ParamsDict) else given or {}).items():
            self._params[name] = value if isinstance(value, Param) else Param(value)

    def __getitem__(self, name):
        param = self._params[name]
        return param.resolve(suppress_exception=self.suppress_exception)

    def __setitem__(self, name, value):
        if isinstance(value, Param):
            self._params[name] = value
        elif name in self._params:
            try:
                self._params[name].resolve(value, self.suppress_exception)
            except ParamValidationError as fault:
                raise ParamValidationError("invalid input for param %s: %s" % (name, fault)) from None
        else:
            self._params[name] = Param(value)

    def __delitem__(self, name):
        del self._params[name]

    def __iter__(self):
        return iter(self._params)

    def __len__(self):
        return len(self._params)

    def __contains__(self, name):
        return name in self._params

    def __repr__(self):
        return repr(self.dump())

    def get_param(self, name):
        return self._params[name]

    def items(self):
        return self._params.items()

    def values(self):
        return self._params.values()

    def copy(self):
        return ParamsDict(self.deep(), self.suppress_exception)

    def deep(self):
        return {name: Param(param.value, param.description, param.source, **param.schema)
                for name, param in self._params.items()}

    def update(self, *args, **kwargs):
        for given in args + (kwargs,):
            source = given.items() if hasattr(given, "items") else given
            for name, value in source:
                self[name] = value

    def dump(self):
        """Return the plain values by name."""
        return {name: param.resolve(suppress_exception=self.suppress_exception) for name, param in self.items()}

    def validate(self):
        """Check every value; raise ParamValidationError naming the first that does not fit."""
        resolved = {}
        for name, param in self.items():
            try:
                resolved[name] = param.resolve(suppress_exception=self.suppress_exception)
            except ParamValidationError as fault:
                raise ParamValidationError("invalid input for param %s: %s" % (name, fault)) from None
        return resolved


class DagParam:
    """A reference to a parameter in a DAG function: ``dag.param("name")``; resolved when the task runs."""

    def __init__(self, current_dag, name, default=NOTSET):
        if default is not NOTSET:
            current_dag.params[name] = default
        self._name, self._default = name, default

    def iter_references(self):
        return iter(())

    def resolve(self, context):
        conf = getattr(context["dag_run"], "conf", None) or {}
        if self._name in conf:
            return conf[self._name]
        if self._name in context["params"]:
            return context["params"][self._name]
        if self._default is not NOTSET:
            return self._default
        raise ParamValidationError("no value could be resolved for parameter %s" % self._name)
