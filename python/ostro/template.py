"""Jinja templates. Jinja2 comes from the author's environment and is imported only when a value has a template in it."""

import copy
import os
import re
import sys
from collections.abc import MutableMapping

from .exceptions import AirflowException
from .params import DagParam
from .xcomarg import Reference

_MARKS = ("{{", "{%", "{#")


def has_template(text):
    return any(mark in text for mark in _MARKS)


_NAME = re.compile(r"\{\{\s*([A-Za-z_][A-Za-z0-9_]*)\s*\}\}")
_WORDS = frozenset("true false none and or not is in if else self loop super caller varargs kwargs".split())


def pieces(text):
    """Cut a template that only names values, such as "out/{{ ds }}", into literal, name, literal, ...; else return ().

    Such a template means the same without Jinja, which touches more memory than many a task.
    """
    known = _pieces.get(text)
    if known is None:
        if len(_pieces) > _MANY:
            _pieces.clear()
        cut = _NAME.split(text)
        odd = any(mark in part for part in cut[::2] for mark in ("{{", "{%", "{#", "}}", "%}", "#}", "\r"))
        odd = odd or any(part.endswith("{") for part in cut[:-1:2]) or any(part.startswith("}") for part in cut[2::2])
        odd = odd or text.endswith("\n") or any(name.lower() in _WORDS for name in cut[1::2])
        known = _pieces[text] = () if odd or len(cut) < 3 else tuple(cut)
    return known


_pieces = {}
_MANY = 1000  # texts to remember; a mapped task may have any number


def _named_only(text, dag):
    """Return the pieces of a template that needs no Jinja in this DAG, else ()."""
    if dag is not None and (dag.jinja_environment_kwargs or dag.render_template_as_native_obj):
        return ()
    return pieces(text)


class LiteralValue:
    """Text that is not to be rendered."""

    def __init__(self, value):
        self.value = value

    def __repr__(self):
        return "literal(%r)" % (self.value,)

    def iter_references(self):
        return iter(())

    def resolve(self, context=None):
        return self.value


def literal(value):
    """Keep a value from being rendered."""
    return LiteralValue(value)


def _jinja(owner):
    try:
        import jinja2
        import jinja2.sandbox

        return jinja2
    except ImportError:
        raise AirflowException("%s and Jinja2 is not installed in this Python: pip install jinja2" % owner) from None


def _filters():
    def strftime(pattern):
        return lambda value: value.strftime(pattern) if value is not None else None

    return {
        "ds": strftime("%Y-%m-%d"), "ds_nodash": strftime("%Y%m%d"),
        "ts": lambda value: value.isoformat() if value is not None else None,
        "ts_nodash": strftime("%Y%m%dT%H%M%S"),
        "ts_nodash_with_tz": lambda value: value.isoformat().replace("-", "").replace(":", "")
        if value is not None else None,
    }


_environments = {}


def _classes(jinja2, native):
    """Airflow's environments: sandboxed, except that attributes with one leading underscore may be read."""
    if native in _environments:
        return _environments[native]
    from jinja2.sandbox import SandboxedEnvironment

    class Sandboxed(SandboxedEnvironment):
        def is_safe_attribute(self, obj, attr, value):
            return not attr.startswith("__")

    if native:
        from jinja2.nativetypes import NativeEnvironment

        class Native(NativeEnvironment):
            pass

        _environments[True] = Native
    _environments[False] = Sandboxed
    return _environments[native]


def make_environment(dag, native=False, searchpath=(), owner="a template is used"):
    """Return the Jinja environment of a DAG: its folder and template_searchpath, macros, filters."""
    jinja2 = _jinja(owner)
    paths = [str(path) for path in searchpath]
    options = {
        "loader": jinja2.FileSystemLoader(paths), "undefined": jinja2.StrictUndefined,
        "extensions": ["jinja2.ext.do"], "cache_size": 0,
    }
    if dag is not None:
        if dag.template_undefined is not None:
            options["undefined"] = dag.template_undefined
        options.update(dag.jinja_environment_kwargs or {})
    env = _classes(jinja2, native)(**options)
    env.filters.update(_filters())
    if dag is not None:
        env.globals.update(dag.user_defined_macros or {})
        env.filters.update(dag.user_defined_filters or {})
    return env


def search_paths(dag):
    """Return where templates are looked for: the DAG file's folder, template_searchpath, the bundle."""
    if dag is None:
        return []
    paths = [os.path.dirname(dag.fileloc)] + list(dag.template_searchpath or ())
    bundle = getattr(dag, "bundle_path", None)
    return paths + ([bundle] if bundle else [])


def environment(task, dag, owner="a template is used"):
    native = task.render_template_as_native_obj
    if native is None:
        native = dag.render_template_as_native_obj if dag is not None else False
    made = _warm.get((id(dag), bool(native)))
    return made or make_environment(dag, bool(native), search_paths(dag), owner)


_warm = {}  # (id of a DAG, native): its environment, made before forking
_compiled = {}  # (id of an environment, text): the compiled template


def warm(dags, most=300):
    """Make the environments of DAGs and compile their templates, at most so many, so that forks find both done.

    Nothing is rendered and no macro is called. What cannot be made or compiled is left for the task to complain about.
    """
    for dag in dags:
        for task in dag.tasks:
            fields = getattr(task, "template_fields", ())
            texts = list(_texts([getattr(task, name, None) for name in fields])) if most > 0 else []
            for text in texts:
                if task.render_template_as_native_obj is None and _named_only(text, dag):
                    continue
                try:
                    env = environment(task, dag)
                    _warm[id(dag), type(env).__name__ == "Native"] = env
                    _compiled[id(env), text] = env.from_string(text)
                except Exception:
                    continue
                most -= 1


def _texts(value):
    return (text for text in _every_text(value) if has_template(text))


def _every_text(value):
    if type(value) is str:
        yield value
    elif isinstance(value, (list, tuple, set)):
        for item in value:
            yield from _every_text(item)
    elif isinstance(value, dict):
        yield from _every_text(list(value.values()))


def warn_of_templates(dag, most=3):
    """Warn of templates that will fail when their tasks run because Jinja2 is not installed."""
    found = ["%r of task %r" % (name, task.task_id) for task in dag.tasks for name in task.operator_class.template_fields
             if _needs_jinja(task, name)]
    if not found or _installed("jinja2"):
        return
    from .settings import warn

    more = " and %d more" % (len(found) - most) if len(found) > most else ""
    warn("DAG %r has templates, which will fail since Jinja2 is not installed in this Python (%s -m pip install jinja2): %s%s"
         % (dag.dag_id, sys.executable, ", ".join(found[:most]), more))


def _needs_jinja(task, name):
    values = [task.__dict__.get(name)]
    if task.is_mapped:
        values = [task.partial_kwargs.get(name), (getattr(task.mapping, "values", None) or {}).get(name)]
        if name == "op_kwargs" and task.partial_kwargs.get("op_kwargs") is not None:
            values.append(getattr(task.mapping, "values", None))
    ends = tuple(task.operator_class.template_ext)
    return any(has_template(text) and not _named_only(text, task.dag) or text.endswith(ends) for text in _every_text(values))


def _installed(name):
    from importlib.util import find_spec

    return find_spec(name) is not None


def dag_environment(dag):
    return make_environment(dag, dag.render_template_as_native_obj, search_paths(dag))


class _Variables(MutableMapping):
    """Context in front of the environment's globals, without computing what the template does not use."""

    def __init__(self, context, env_globals):
        self._context, self._globals = context, env_globals

    def __getitem__(self, name):
        return self._context[name] if name in self._context else self._globals[name]

    def __contains__(self, name):
        return name in self._context or name in self._globals

    def __iter__(self):
        return iter(dict.fromkeys(list(self._context) + list(self._globals)))

    def __len__(self):
        return len(list(iter(self)))

    def copy(self):
        """For Jinja's tracebacks, which want to show variables: none, rather than to compute them all."""
        return {}

    def __setitem__(self, name, value):
        self._globals[name] = value

    def __delitem__(self, name):
        del self._globals[name]


def _expand(template, context, native):
    env = template.environment
    scope = env.context_class(env, _Variables(context, dict(env.globals)), template.name, template.blocks)
    try:
        parts = list(template.root_render_func(scope))
    except Exception:
        env.handle_exception()
        raise
    if native:
        from jinja2.nativetypes import native_concat

        return native_concat(parts)
    return "".join(parts)


class Renderer:
    """Renders one task's arguments."""

    def __init__(self, task, context, env=None):
        self.task, self.context, self._env = task, context, env
        self.field = ""
        self.keep = set()
        self._seen = set()

    @property
    def env(self):
        if self._env is None:
            self._env = environment(self.task, self.task.dag, "%r of task %r has a template"
                                    % (self.field, self.task.task_id))
        return self._env

    @property
    def native(self):
        return type(self.env).__name__ == "Native"

    def render_fields(self, parent, fields=None):
        """Replace the templated attributes of a task, or of an object that names its own, by their values."""
        for name in type(parent).template_fields if fields is None else fields:
            if not hasattr(parent, name):
                raise AttributeError("%r is named in template_fields of %s but the %s has no such attribute; set it "
                                     "in __init__" % (name, type(parent).__name__, type(parent).__name__))
            value = getattr(parent, name)
            if not value:
                continue
            rendered = self.render(value, name)
            if rendered is not value:
                setattr(parent, name, rendered)

    def render(self, value, field=None):
        if field is not None:
            self.field = field
        if isinstance(value, str):
            return self._text(value)
        if id(value) in self.keep:
            return value
        if isinstance(value, (Reference, DagParam, LiteralValue)):
            return value.resolve(self.context)
        if value is None or isinstance(value, (int, float, bytes)):
            return value
        if isinstance(value, tuple):
            parts = [self.render(item) for item in value]
            return tuple(parts) if type(value) is tuple else type(value)(*parts)
        if isinstance(value, list):
            return [self.render(item) for item in value]
        if isinstance(value, dict):
            return {key: self.render(item) for key, item in value.items()}
        if isinstance(value, set):
            return {self.render(item) for item in value}
        return self._object(value)

    def _object(self, value):
        nested = getattr(type(value), "template_fields", None)
        if nested is None:
            nested = nested_fields(value)
        if nested and id(value) not in self._seen:
            self._seen.add(id(value))
            value = copy.copy(value)
            self.render_fields(value, [name for name in nested if getattr(value, name, None) is not None])
        return value

    def _text(self, text):
        if type(text) is not str:
            text = str(text)
        if self.task.template_ext and text.endswith(tuple(self.task.template_ext)):
            return self._file(text)
        if not has_template(text):
            # Jinja drops one newline at the end; so that a value means the same with and without a template, so do we.
            return text[:-1] if text.endswith("\n") else text
        named = self._from_context(text)
        if named is not None:
            return named
        try:
            template = _compiled.get((id(self.env), text)) or self.env.from_string(text)
            return _expand(template, self.context, self.native)
        except AirflowException:
            raise
        except Exception as fault:
            raise self._explained(fault, text) from fault

    def _from_context(self, text):
        """Render a template that only names what the context has; None for every other."""
        if self._env is not None or self.task.render_template_as_native_obj:
            return None
        cut, context = _named_only(text, self.task.dag), self.context
        if not cut or not all(name in context for name in cut[1::2]):
            return None
        return "".join([str(context[part]) if i % 2 else part for i, part in enumerate(cut)])

    def _file(self, name):
        try:
            return _expand(self.env.get_template(name), self.context, self.native)
        except Exception as fault:
            if type(fault).__name__ == "TemplateNotFound":
                raise AirflowException(
                    "%r of task %r names a file to read, %s, which is not in %s (end the text with a space if it is "
                    "a command)" % (self.field, self.task.task_id, fault.name, ", ".join(search_paths(self.task.dag)))
                ) from fault
            raise self._explained(fault, name) from fault

    def _explained(self, fault, text):
        if not type(fault).__module__.startswith("jinja2"):
            return fault
        line = text.strip().splitlines()[0][:120] if text.strip() else ""
        why = self._hint(str(fault), text)
        try:
            return type(fault)("%s, in %r of task %r: %s%s" % (fault, self.field, self.task.task_id, line, why))
        except TypeError:
            return fault

    def _hint(self, message, text):
        """Say what else there is to know about a name that a template uses in vain."""
        if " is undefined" in message:
            from .context import no_date
            from .settings import nearest

            name = message.partition("'")[2].partition("'")[0]
            why = no_date(self.context, name)
            return " (%s)" % why if why else nearest(name, list(self.context) + list(self.env.globals))
        if "has no attribute" in message and "None" in message and "ds" not in self.context and any(
                word in text for word in ("logical_date", "execution_date", "data_interval")):
            return " (this DAG run has no logical date: trigger it with one or use dag_run.run_after)"
        return ""


# The parts of Kubernetes objects that the KubernetesPodOperator renders.
_KUBERNETES = {
    "V1EnvVar": ("value", "name"), "V1EnvFromSource": ("config_map_ref", "secret_ref"),
    "V1SecretEnvSource": ("name",), "V1ConfigMapEnvSource": ("name",), "V1ResourceRequirements": ("limits", "requests"),
    "V1Volume": ("name", "persistent_volume_claim", "config_map"), "V1VolumeMount": ("name", "sub_path"),
    "V1PersistentVolumeClaimVolumeSource": ("claim_name",), "V1ConfigMapVolumeSource": ("name",),
    "V1VolumeResourceRequirements": ("limits", "requests"),
}


def nested_fields(value):
    return _KUBERNETES.get(type(value).__name__)
