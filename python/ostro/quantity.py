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
    """Return {"cpu": cores, "memory": bytes, "gpus": devices} of a pod's request; templates count for nothing yet."""
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
                out["gpus"] = int(parse(value))
    return out


def parse_pod(given):
    """Return what a pod asks for, marked as such: what the machine does not have is not waited for."""
    out = parse_resources(given)
    return dict(out, pod=True) if out else out


# The keys of resources= of a task that is no pod; those of Airflow's own Resources with what they are called here.
TASK_KEYS = ("cpu", "memory", "gpus", "gpu_memory")
_AIRFLOW_KEYS = {"cpus": "cpu", "ram": "memory", "gpu": "gpus", "disk": None}


def parse_task(given, task_id):
    """Return {"cpu": cores, "memory": bytes, "gpus": devices, "gpu_memory": bytes of each} of resources= of a task.

    Airflow's own keys (cpus, ram and disk in megabytes, gpus) and those of pods (request_memory, limit_gpu, requests,
    limits …) are understood, too.
    """
    if not given:
        return {}
    if not isinstance(given, dict) or any(key in FLAT_KEYS for key in given):
        return parse_resources(given)
    out = {}
    for name, value in given.items():
        key = _AIRFLOW_KEYS.get(name, name)
        if key is None or value is None:
            continue
        if key not in TASK_KEYS:
            from .settings import nearest

            raise TypeError("resources= of task %r: unknown key %r%s; it may have %s"
                            % (task_id, name, nearest(name, TASK_KEYS), ", ".join(TASK_KEYS)))
        try:
            amount = parse(value)
        except ValueError as fault:
            raise ValueError("resources= of task %r: %s: %s" % (task_id, name, fault)) from None
        if amount < 0:
            raise ValueError("resources= of task %r: %s must not be negative, not %r" % (task_id, name, value))
        if name == "ram" and isinstance(value, (int, float)):
            amount *= 2**20
        out[key] = int(amount) if key != "cpu" or float(amount).is_integer() else amount
        if key == "gpus" and amount != out[key]:
            raise ValueError("resources= of task %r: gpus must be a whole number, not %r; to share a GPU say how much of its "
                             "memory the task needs: gpu_memory='10Gi'" % (task_id, value))
    if out.get("gpu_memory"):
        if out.setdefault("gpus", 1) == 0:
            raise ValueError("resources= of task %r: gpu_memory without a GPU (gpus=0)" % task_id)
    return {key: amount for key, amount in out.items() if amount}


def limits_of(given):
    """Return the limits of a request as {"cpu": cores, "memory": bytes}."""
    _, limits = split(given)
    return {name: parse(value) for name, value in limits.items() if name in ("cpu", "memory") and not is_template(value)}
