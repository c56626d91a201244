"""Connection: where and how to reach something, from AIRFLOW_CONN_ID (URI or JSON) first, then from the server."""

import os

from . import live
from .exceptions import AirflowException, AirflowNotFoundException, CommsError


class Connection:
    """One connection. ``Connection(uri=…)`` and ``Connection(conn_type=…, host=…)`` both work."""

    EXTRA_KEY = "__extra__"

    def __init__(self, conn_id=None, conn_type=None, description=None, host=None, login=None, password=None,
                 schema=None, port=None, extra=None, uri=None, team_name=None):
        self.conn_id, self.conn_type, self.description = conn_id, conn_type, description
        self.host, self.login, self.password, self.schema = host, login, password, schema
        self.port = int(port) if port not in (None, "") else None
        if extra is not None and not isinstance(extra, str):
            import json

            extra = json.dumps(extra)
        self.extra = extra
        if uri is not None:
            if conn_type or host or login or password or schema or port:
                raise AirflowException("give a Connection either uri= or its parts, not both")
            self._read_uri(uri)

    def _read_uri(self, uri):
        from urllib.parse import parse_qsl, unquote, urlsplit

        head, sep, rest = uri.partition("://")
        if not sep:
            raise AirflowException("a connection URI looks like type://login:password@host:port/schema?key=value")
        inner, inner_sep, inner_rest = rest.partition("://")
        parts = urlsplit("x://" + (inner_rest if inner_sep else rest))
        self.conn_type = {"postgresql": "postgres"}.get(head.replace("-", "_"), head.replace("-", "_"))
        host = unquote(_host(parts))
        self.host = "%s://%s" % (inner, host) if inner_sep else host
        self.login = unquote(parts.username) if parts.username else parts.username
        self.password = unquote(parts.password) if parts.password else parts.password
        self.port = parts.port
        self.schema = unquote(parts.path[1:]) if len(parts.path) > 1 else ""
        if parts.query:
            import json

            query = dict(parse_qsl(parts.query, keep_blank_values=True))
            self.extra = query[self.EXTRA_KEY] if self.EXTRA_KEY in query else json.dumps(query)

    def __repr__(self):
        return self.conn_id or ""

    @property
    def extra_dejson(self):
        """The extra as a dict; {} when it is not JSON."""
        import json

        try:
            value = json.loads(self.extra) if self.extra else {}
        except ValueError:
            return {}
        return value if isinstance(value, dict) else {}

    def get_extra(self):
        return self.extra

    def get_password(self):
        return self.password

    def get_uri(self):
        """Return the connection as a URI."""
        from urllib.parse import quote, urlencode

        out = "%s://" % (self.conn_type or "").lower().replace("_", "-")
        host = self.host or ""
        if "://" in host:
            protocol, _, host = host.partition("://")
            out += protocol + "://"
        if self.login is not None or self.password:
            out += quote(self.login or "", safe="")
            if self.password is not None:
                out += ":" + quote(self.password, safe="")
            out += "@"
        out += quote(host, safe="")
        if self.port:
            out += ":%d" % self.port
        if self.schema:
            out += "/" + quote(self.schema, safe="")
        extra = self.extra_dejson
        if extra:
            flat = all(isinstance(value, str) for value in extra.values())
            out += ("/" if not self.schema else "") + "?" + urlencode(extra if flat else {self.EXTRA_KEY: self.extra})
        return out

    def as_json(self):
        import json

        names = ("conn_type", "description", "host", "login", "password", "schema", "port")
        out = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        if self.extra:
            out["extra"] = self.extra_dejson or self.extra
        return json.dumps(out)

    def to_dict(self):
        return {"conn_id": self.conn_id, "conn_type": self.conn_type, "host": self.host, "login": self.login,
                "password": self.password, "schema": self.schema, "port": self.port, "extra": self.extra_dejson}

    @classmethod
    def from_json(cls, text, conn_id=None):
        import json

        fields = json.loads(text)
        fields.setdefault("conn_type", fields.pop("conn-type", None))
        fields.pop("conn_id", None)
        known = ("conn_type", "description", "host", "login", "password", "schema", "port", "extra")
        unknown = [name for name in fields if name not in known]
        if unknown:
            from .settings import nearest

            raise AirflowException("connection %s: unknown field %r%s" % (conn_id, unknown[0],
                                                                          nearest(unknown[0], known)))
        return cls(conn_id=conn_id, **fields)

    def get_hook(self, *, hook_params=None):
        raise AirflowException("connection %r of type %r: hooks come from provider packages; use the package's hook "
                               "class" % (self.conn_id, self.conn_type))

    @classmethod
    def get(cls, conn_id):
        """Return a connection; raise AirflowNotFoundException if there is none."""
        text = os.environ.get("AIRFLOW_CONN_" + conn_id.upper())
        if text:
            found = (cls.from_json(text, conn_id) if text.lstrip().startswith("{")
                     else cls(conn_id=conn_id, uri=text.strip()))
            found._mask()
        else:
            found = cls._ask(conn_id)  # whoever answers masks it first
        return found

    get_connection_from_secrets = get

    @classmethod
    def _ask(cls, conn_id):
        try:
            answer = live.request({"type": "GetConnection", "conn_id": conn_id})
        except CommsError as fault:
            if fault.code in ("CONNECTION_NOT_FOUND", "NOT_FOUND"):
                raise AirflowNotFoundException("The conn_id `%s` isn't defined" % conn_id) from None
            if live.comms is None:
                raise AirflowNotFoundException(
                    "The conn_id `%s` isn't defined: only the environment is read, since no server is connected here "
                    "(AIRFLOW_CONN_%s)" % (conn_id, conn_id.upper())) from None
            raise
        names = ("conn_type", "host", "login", "password", "schema", "port", "extra")
        return cls(conn_id=conn_id, **{name: answer.get(name) for name in names})

    def _mask(self):
        from .variable import mask

        mask(self.secrets())

    def secrets(self):
        """Return what must stay out of logs: the password, and what stands under sensitive keys of the extra."""
        from .masking import find

        return ([self.password] if self.password else []) + find("", self.extra or "")


def _host(parts):
    """urlsplit lowers the host's case; a connection keeps it."""
    netloc = parts.netloc.rpartition("@")[2]
    host = netloc.rpartition(":")[0] if parts.port is not None else netloc.rstrip(":")
    return host.strip("[]")


class BaseHook:
    """The base of hooks, and the usual way to ask for a connection."""

    conn_name_attr, default_conn_name, conn_type, hook_name = "", "", "", ""

    def __init__(self, logger_name=None, **kwargs):
        self._logger_name = logger_name

    @property
    def log(self):
        import logging

        return logging.getLogger("airflow.task.hooks.%s.%s" % (type(self).__module__, type(self).__qualname__))

    @classmethod
    def get_connection(cls, conn_id):
        """Return a connection; raise AirflowNotFoundException if there is none."""
        return Connection.get(conn_id)

    @classmethod
    def get_hook(cls, conn_id, hook_params=None):
        return cls.get_connection(conn_id).get_hook(hook_params=hook_params)

    def get_conn(self):
        raise NotImplementedError
