"""Variable: a named text value, from the environment (AIRFLOW_VAR_NAME) first, then from the server."""

import os

from . import live
from .exceptions import CommsError
from .masking import find, looks_secret
from .params import NOTSET


def mask(value, name=None):
    """Keep a value out of the logs; when this returns, it is kept out of everything that is printed from now on."""
    if isinstance(value, dict):
        for key, item in value.items():
            if looks_secret(key) or not isinstance(item, str):
                mask(item, key)
    elif isinstance(value, (list, tuple)):
        for item in value:
            mask(item, name)
    elif isinstance(value, str) and len(value) > 2 and live.comms is not None:
        try:
            live.request({"type": "MaskSecret", "value": value, **({"name": str(name)} if name else {})})
        except CommsError as fault:
            # A process the task has forked itself, or a thread that an import has left: nobody there can be told.
            if fault.code not in ("NOT_SUPPORTED", "UNAVAILABLE"):
                raise


class Variable:
    """Named values; use the class methods."""

    def __init__(self, key=None, val=None, description=None):
        self.key, self.val, self.value, self.description = key, val, val, description

    @classmethod
    def get(cls, key, default_var=NOTSET, deserialize_json=False, *, default=NOTSET, team_name=None):
        """Return a value; without a default, a missing one raises KeyError."""
        fallback = default_var if default is NOTSET else default
        text = os.environ.get("AIRFLOW_VAR_" + key.upper())
        if text is None:
            text = cls._ask(key, fallback)  # whoever answers masks it first
            if text is NOTSET:
                return fallback
        else:
            mask(find(key, text), key)
        if deserialize_json:
            import json

            return json.loads(text)
        return text

    @staticmethod
    def _ask(key, fallback):
        try:
            answer = live.request({"type": "GetVariable", "key": key})
        except CommsError as fault:
            missing = fault.code in ("VARIABLE_NOT_FOUND", "NOT_FOUND")
            if fallback is not NOTSET and (missing or live.comms is None):
                return NOTSET
            if missing:
                raise KeyError("Variable %s does not exist" % key) from None
            if live.comms is None:
                raise KeyError("Variable %s: only the environment is read, since no server is connected here (set "
                               "AIRFLOW_VAR_%s or give a default)" % (key, key.upper())) from None
            raise
        return answer.get("value")

    @classmethod
    def set(cls, key, value, description=None, serialize_json=False, session=None):
        """Store a value."""
        if serialize_json:
            import json

            text = json.dumps(value, indent=2)
        else:
            text = str(value)
        message = {"type": "PutVariable", "key": key, "value": text}
        if description is not None:
            message["description"] = description
        live.request(message)

    @classmethod
    def setdefault(cls, key, default, description=None, deserialize_json=False):
        """Return a value, storing the default if there is none."""
        found = cls.get(key, default=None, deserialize_json=deserialize_json)
        if found is not None:
            return found
        if default is None:
            raise ValueError("the default value must be set")
        cls.set(key, default, description, serialize_json=deserialize_json)
        return default

    @classmethod
    def update(cls, key, value, serialize_json=False, session=None):
        cls.get(key)
        cls.set(key, value, serialize_json=serialize_json)

    @classmethod
    def delete(cls, key, session=None):
        """Forget a value."""
        live.request({"type": "DeleteVariable", "key": key})
