"""Assets: names for data that tasks read and write, and boolean expressions over them that schedule DAGs."""


class BaseAsset:
    """What may stand in ``schedule=`` and be combined with ``&`` and ``|``."""

    def __or__(self, other):
        return AssetAny(self, other) if isinstance(other, BaseAsset) else NotImplemented

    def __and__(self, other):
        return AssetAll(self, other) if isinstance(other, BaseAsset) else NotImplemented

    def expr(self):
        raise NotImplementedError

    def iter_assets(self):
        return iter(())


class Asset(BaseAsset):
    """One asset. One positional argument is both name and URI, as in Airflow."""

    asset_type = "asset"

    def __init__(self, name=None, uri=None, *, group=None, extra=None, watchers=None, access_control=None):
        self.access_control = access_control
        if name is None and uri is None:
            raise TypeError("Asset() requires either 'name' or 'uri'")
        name = uri if name is None else name
        uri = name if uri is None else uri
        for word, value in (("name", name), ("uri", uri)):
            if not isinstance(value, str) or not value.strip() or not value.isascii():
                raise ValueError("the %s of an asset must be non-empty ASCII text, not %r" % (word, value))
        self.name, self.uri, self.group = name, uri, group or self.asset_type
        self.extra, self.watchers = dict(extra or {}), list(watchers or [])
        for one in self.watchers:
            if not isinstance(one, AssetWatcher):
                raise TypeError("watchers= of asset %r takes AssetWatcher, not %r" % (name, one))

    def __repr__(self):
        return "%s(name=%r, uri=%r)" % (type(self).__name__, self.name, self.uri)

    def __eq__(self, other):
        return isinstance(other, Asset) and (self.name, self.uri, self.group) == (other.name, other.uri, other.group)

    def __hash__(self):
        return hash((self.name, self.uri))

    def __fspath__(self):
        return self.uri

    @staticmethod
    def ref(name=None, uri=None):
        """Refer to an asset declared elsewhere, by exactly one of its name and its URI."""
        if (name is None) == (uri is None):
            raise TypeError("Asset.ref() takes exactly one of name= and uri=")
        return AssetUriRef(uri) if name is None else AssetNameRef(name)

    def wire(self):
        out = {"name": self.name, "uri": self.uri, "group": self.group}
        if self.extra:
            out["extra"] = self.extra
        return out

    def declared(self):
        """Return ``wire()`` with what a DAG says of the asset beside it."""
        out = self.wire()
        if self.watchers:
            out["watchers"] = [one.wire() for one in self.watchers]
        return out

    def expr(self):
        return {"asset": self.declared()}

    def iter_assets(self):
        yield self


class Dataset(Asset):
    """Airflow 2's name for an asset; its first argument is the URI."""

    def __init__(self, uri=None, extra=None, *, name=None, group=None, watchers=None):
        super().__init__(name, uri, group=group, extra=extra, watchers=watchers)


class Model(Asset):
    """An asset that is a machine-learning model."""

    asset_type = "model"


class AssetAccessControl:
    """Which teams may update an asset; there are no teams here, so nothing comes of it."""

    def __init__(self, producer_teams=None, consumer_teams=None, allow_global=True):
        self.producer_teams, self.consumer_teams = list(producer_teams or ()), consumer_teams
        self.allow_global = allow_global


class AssetAlias(BaseAsset):
    """A name that a task resolves to assets while it runs."""

    def __init__(self, name, group="asset"):
        self.name, self.group = name, group

    def __repr__(self):
        return "AssetAlias(%r)" % (self.name,)

    def __eq__(self, other):
        return isinstance(other, AssetAlias) and self.name == other.name

    def __hash__(self):
        return hash(("alias", self.name))

    def wire(self):
        return {"name": self.name, "group": self.group, "alias": True}

    def expr(self):
        return {"alias": self.name}


class AssetNameRef(BaseAsset):
    """A reference to an asset by its name alone."""

    def __init__(self, name):
        self.name = name

    def __repr__(self):
        return "Asset.ref(name=%r)" % (self.name,)

    def __eq__(self, other):
        return isinstance(other, AssetNameRef) and self.name == other.name

    def __hash__(self):
        return hash((type(self).__name__, self.name))

    def wire(self):
        return {"name": self.name}

    def expr(self):
        return {"asset": self.wire()}


class AssetUriRef(BaseAsset):
    """A reference to an asset by its URI alone."""

    def __init__(self, uri):
        self.uri = uri

    def __repr__(self):
        return "Asset.ref(uri=%r)" % (self.uri,)

    def __eq__(self, other):
        return isinstance(other, AssetUriRef) and self.uri == other.uri

    def __hash__(self):
        return hash((type(self).__name__, self.uri))

    def wire(self):
        return {"name": "", "uri": self.uri}

    def expr(self):
        return {"asset": self.wire()}


class _Condition(BaseAsset):
    word = ""

    def __init__(self, *parts):
        for part in parts:
            if not isinstance(part, BaseAsset):
                raise TypeError("expect asset expressions in condition, not %r" % (part,))
        self.objects = []
        for part in parts:
            self.objects += part.objects if type(part) is type(self) else [part]

    def __repr__(self):
        return "%s(%s)" % (type(self).__name__, ", ".join(map(repr, self.objects)))

    def expr(self):
        return {self.word: [part.expr() for part in self.objects]}

    def iter_assets(self):
        for part in self.objects:
            yield from part.iter_assets()


class AssetAll(_Condition):
    """All of these must have been updated."""

    word = "all"


class AssetAny(_Condition):
    """Any of these must have been updated."""

    word = "any"


class AssetWatcher:
    """A trigger whose events update an asset."""

    def __init__(self, name, trigger):
        from .triggering import BaseEventTrigger

        if not isinstance(trigger, BaseEventTrigger):
            raise ValueError("the trigger of AssetWatcher %r must inherit BaseEventTrigger, unlike %s"
                             % (name, type(trigger).__name__))
        self.name, self.trigger = name, trigger

    def __repr__(self):
        return "AssetWatcher(name=%r, trigger=%r)" % (self.name, self.trigger)

    def wire(self):
        from .xcom import encode

        classpath, kwargs = self.trigger.serialize()
        return {"name": self.name, "classpath": classpath, "kwargs": encode(kwargs, "the arguments of a watcher's trigger")}


class Metadata:
    """Yielded by a task to attach ``extra`` to an asset's event."""

    def __init__(self, asset, extra=None, alias=None):
        self.asset, self.extra = asset, dict(extra or {})
        self.alias = alias.name if isinstance(alias, AssetAlias) else alias


def as_condition(schedule):
    """Return the asset expression of ``schedule=``: one, a list or tuple (all of them), or an expression."""
    if isinstance(schedule, BaseAsset):
        return schedule
    parts = list(schedule)
    return parts[0] if len(parts) == 1 else AssetAll(*parts)
