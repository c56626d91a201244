"""Kubernetes quantities ("500m", "4Gi") and the many spellings of a resource request."""

_SUFFIX = {
    "m": 1e-3, "": 1, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18,
    "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50, "Ei": 2**60,
}


def parse(text):
    """Return a quantity as a number; raise ValueError saying what is wrong with it."""
    if isinstance(text, (int, float)) and not isinstance(text, bool):
        return text
    clean = str(text).strip()
    number = clean.rstrip("KMGTPEikm")
    suffix = clean[len(number):]
    if suffix == "K":
        suffix = "k"
    try:
        return float(number) * _SUFFIX[suffix]
    except (ValueError, KeyError):
        raise ValueError("%r is not a quantity: want a number like 2, 500m, 4Gi" % (text,)) from None


def is_template(text):
    return isinstance(text, str) and ("{{" in text or "{%" in text)


def split(given):
    """Return (requests, limits) of any spelling: a V1ResourceRequirements, its dict, or Airflow 1's flat dict."""
    if given is None:
        return {}, {}
    if not isinstance(given, dict):
        return dict(getattr(given, "requests", None) or {}), dict(getattr(given, "limits", None) or {})
    requests, limits = dict(given.get("requests") or {}), dict(given.get("limits") or {})
    for name, value in given.items():
        if value is None:
            continue
        kind, _, what = name.partition("_")
        target = {"request": requests, "limit": limits}.get(kind)
        if target is not None and what:
            target[{"gpu": "nvidia.com/gpu", "ephemeral_storage": "ephemeral-storage"}.get(what, what)] = value
    return requests, limits


FLAT_KEYS = ("request_memory", "request_cpu", "request_ephemeral_storage", "limit_memory", "limit_cpu", "limit_gpu",
             "limit_ephemeral_storage", "requests", "limits", "claims")


def parse_resources(given):
    """Return {"cpu": cores, "memory": bytes, "gpu": devices} of a request; templates count for nothing yet."""
    requests, limits = split(given)
    out = {}
    for name, key in (("cpu", "cpu"), ("memory", "memory")):
        value = requests.get(name, limits.get(name))
        if value is not None and not is_template(value):
            amount = parse(value)
            out[key] = int(amount) if key == "memory" or float(amount).is_integer() else amount
    for source in (limits, requests):
        for name, value in source.items():
            if name.endswith("/gpu") and not is_template(value):
                out["gpu"] = int(parse(value))
    if not requests and not limits and isinstance(given, dict):
        for key in ("cpu", "memory", "gpu"):
            if key in given and not is_template(given[key]):
                out[key] = int(parse(given[key])) if key != "cpu" else parse(given[key])
    return out


def limits_of(given):
    """Return the limits of a request as {"cpu": cores, "memory": bytes}."""
    _, limits = split(given)
    return {name: parse(value) for name, value in limits.items() if name in ("cpu", "memory") and not is_template(value)}
