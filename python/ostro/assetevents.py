"""What a task sees and says of asset events: ``outlet_events``, ``inlet_events`` and ``triggering_asset_events``."""

from collections.abc import Mapping, Sequence

from . import dates, live
from .assets import Asset, AssetAlias, AssetNameRef, AssetUriRef


def _means(ref, asset):
    """Say whether a reference by name or by URI means an asset."""
    if isinstance(ref, AssetNameRef):
        return ref.name == asset.name
    return isinstance(ref, AssetUriRef) and ref.uri == asset.uri


def _same(key, declared):
    """Return the declared asset, reference or alias that ``key`` stands for, else ``key`` itself."""
    key = Asset(uri=key) if isinstance(key, str) else key
    if not isinstance(key, (Asset, AssetAlias, AssetNameRef, AssetUriRef)):
        raise TypeError("Key should be either an asset or an asset alias, not %s" % (type(key),))
    for one in declared:
        if isinstance(one, Asset) and isinstance(key, Asset) and (one.name, one.uri) == (key.name, key.uri):
            return one
        if one == key:
            return one
    if isinstance(key, AssetAlias):
        return key
    for one in declared:
        if isinstance(one, Asset) and _means(key, one) or isinstance(key, Asset) and _means(one, key):
            return one
    return key


class _ByName:
    """Look-up by name, URI or alias, for all three."""

    def for_asset(self, *, name=None, uri=None):
        """Return what there is for an asset by its name, its URI or both."""
        if name is None and uri is None:
            raise ValueError("name and uri cannot both be None")
        return self[Asset(name=name, uri=uri) if name and uri else Asset.ref(name=name, uri=uri)]

    def for_asset_alias(self, name):
        """Return what there is for an alias."""
        return self[AssetAlias(name)]


class OutletEventAccessor:
    """What ``outlet_events[asset]`` gives: a dict ``extra`` to fill, and ``add`` for aliases."""

    def __init__(self, key):
        self.key, self.extra, self.asset_alias_events = key, {}, []

    def add_partitions(self, keys):
        from .exceptions import AirflowException

        raise AirflowException("partitions of assets are not built: %r cannot be given to %r" % (keys, self.key))

    def add(self, asset, extra=None):
        """Make an event of an asset by way of this alias; without effect on anything but an alias, as in Airflow."""
        if isinstance(self.key, AssetAlias):
            self.asset_alias_events.append((asset, dict(extra or {})))


class OutletEventAccessors(_ByName, Mapping):
    """The ``outlet_events`` of a task's context."""

    def __init__(self, outlets=()):
        self._outlets, self._events = list(outlets), {}

    def __getitem__(self, key):
        key = _same(key, self._outlets)
        if key not in self._events:
            self._events[key] = OutletEventAccessor(key)
        return self._events[key]

    def __iter__(self):
        return iter(self._events)

    def __len__(self):
        return len(self._events)

    def __contains__(self, key):
        return _same(key, self._outlets) in self._events

    for_alias = _ByName.for_asset_alias

    def dump(self, outlets):
        """Return one wire event per outlet asset, with extras, and those added to aliases."""
        out = []
        for outlet in dict.fromkeys(each for each in outlets if hasattr(each, "wire")):
            accessor = self._events.get(outlet)
            if isinstance(outlet, AssetAlias):
                out += [_by_alias(asset, extra, outlet) for asset, extra in
                        (accessor.asset_alias_events if accessor else ())]
                continue
            wire = outlet.wire()
            out.append({"name": wire["name"], "uri": wire.get("uri", ""), "extra": accessor.extra if accessor else {}})
        return out


def _by_alias(asset, extra, alias):
    asset = Asset(uri=asset) if isinstance(asset, str) else asset
    wire = asset.wire()
    out = {"name": wire["name"], "uri": wire.get("uri", ""), "extra": extra, "alias": alias.name}
    if wire.get("group", "asset") != "asset":
        out["group"] = wire["group"]
    if wire.get("extra"):
        out["asset_extra"] = wire["extra"]
    return out


class AssetEvent(Mapping):
    """One update of an asset; what it knows are attributes, and keys as well."""

    def __init__(self, fields):
        self._fields = dict(fields, timestamp=dates.shown(fields.get("timestamp")), extra=fields.get("extra") or {})
        asset = fields.get("asset") or {}
        self.asset = Asset(name=asset.get("name"), uri=asset.get("uri") or None, group=asset.get("group"),
                           extra=asset.get("extra"))
        self.source_aliases = [AssetAlias(one["name"]) for one in fields.get("source_aliases") or ()]

    def __getattr__(self, name):
        fields = self.__dict__.get("_fields", {})
        if name in fields:
            return fields[name]
        raise AttributeError("an asset event has no attribute %r" % name)

    def __getitem__(self, name):
        return self._fields[name]

    def __iter__(self):
        return iter(self._fields)

    def __len__(self):
        return len(self._fields)

    def __repr__(self):
        return "<AssetEvent %s at %s from %s>" % (self.asset.name, self._fields["timestamp"],
                                                  self._fields.get("source_run_id") or "outside")

    @property
    def source_dag_run(self):
        """The DAG run it came from, None if it came from outside."""
        from .context import DagRunView

        if not self._fields.get("source_dag_id") or not self._fields.get("source_run_id"):
            return None
        if "_run" not in self.__dict__:
            self._run = DagRunView(live.request({"type": "GetDagRun", "dag_id": self.source_dag_id,
                                                 "run_id": self.source_run_id}))
        return self._run

    @property
    def source_task_instance(self):
        """The task instance it came from, None if it came from outside."""
        return SourceTaskInstance(self) if self._fields.get("source_task_id") else None


class SourceTaskInstance:
    """The task instance that has updated an asset."""

    def __init__(self, event):
        self._event = event
        self.dag_id, self.run_id = event.source_dag_id, event.source_run_id
        self.task_id, self.map_index = event.source_task_id, event.source_map_index

    @property
    def dag_run(self):
        return self._event.source_dag_run

    def xcom_pull(self, *, key="return_value", default=None):
        """Return what it has stored."""
        from .xcom import decode

        found = live.request({"type": "GetXCom", "dag_id": self.dag_id, "run_id": self.run_id, "task_id": self.task_id,
                              "map_index": self.map_index, "key": key})
        value = decode(found.get("value")) if found.get("found") else None
        return default if value is None else value


class InletEvents(Sequence):
    """The events of one inlet, asked for when they are looked at."""

    def __init__(self, **query):
        self._query, self._found = query, None

    def _with(self, **more):
        self._query.update(more)
        self._found = None
        return self

    def after(self, after):
        """Leave out what is older."""
        return self._with(after=_moment(after))

    def before(self, before):
        """Leave out what is younger."""
        return self._with(before=_moment(before))

    def ascending(self, ascending=True):
        """Put the oldest first, or the newest."""
        return self._with(ascending=ascending)

    def limit(self, limit):
        """Take so many at most."""
        return self._with(limit=limit)

    def _events(self):
        if self._found is None:
            kind = "GetAssetEventByAssetAlias" if "alias_name" in self._query else "GetAssetEventByAsset"
            query = {word: value for word, value in self._query.items() if value is not None}
            self._found = [AssetEvent(one) for one in live.request(dict(query, type=kind))["asset_events"]]
        return self._found

    def __getitem__(self, index):
        return self._events()[index]

    def __len__(self):
        return len(self._events())


def _moment(when):
    return None if when is None else dates.wire(dates.parse(when) if isinstance(when, str) else when)


class InletEventsAccessors(_ByName, Mapping):
    """The ``inlet_events`` of a task's context, by inlet or by its number."""

    def __init__(self, inlets):
        self._inlets = list(inlets)

    def __getitem__(self, key):
        one = self._inlets[key] if isinstance(key, int) else _same(key, self._inlets)
        if one not in self._inlets:
            raise KeyError(key)
        if isinstance(one, AssetAlias):
            return InletEvents(alias_name=one.name)
        if isinstance(one, Asset):
            return InletEvents(name=one.name, uri=one.uri)
        return InletEvents(**({"name": one.name} if isinstance(one, AssetNameRef) else {"uri": one.uri}))

    def __iter__(self):
        return iter(self._inlets)

    def __len__(self):
        return len(self._inlets)


class TriggeringAssetEvents(_ByName, Mapping):
    """The ``triggering_asset_events`` of a context: the events the run has consumed, by asset and by alias."""

    def __init__(self, consumed):
        self._events = {}
        for event in map(AssetEvent, consumed or ()):
            for key in [event.asset] + event.source_aliases:
                self._events.setdefault(key, []).append(event)

    def __getitem__(self, key):
        return self._events[_same(key, self._events)]

    def __iter__(self):
        return iter(self._events)

    def __len__(self):
        return len(self._events)

    def __repr__(self):
        return "TriggeringAssetEvents(%r)" % (self._events,)
