"""``airflow.configuration.conf``: getters with the few values that mean something here; the environment overrides them.

Ostro is configured by ostro.yaml. Files that read Airflow's configuration get what corresponds to it.
"""

import os

from .exceptions import AirflowConfigException
from .params import NOTSET

_VALUES = {
    ("core", "dags_folder"): lambda: os.environ.get("OSTRO_DAGS") or os.path.expanduser("~/.ostro/dags"),
    ("core", "executor"): lambda: "LocalExecutor",
    ("core", "default_timezone"): lambda: "utc",
    ("core", "parallelism"): lambda: "32",
    ("core", "max_active_tasks_per_dag"): lambda: "16",
    ("core", "max_active_runs_per_dag"): lambda: "16",
    ("core", "default_task_retries"): lambda: "0",
    ("core", "load_examples"): lambda: "False",
    ("core", "unit_test_mode"): lambda: "False",
    ("core", "lazy_load_plugins"): lambda: "True",
    ("core", "plugins_folder"): lambda: os.path.expanduser("~/.ostro/plugins"),
    ("core", "max_map_length"): lambda: "1024",
    ("operators", "default_owner"): lambda: "airflow",
    ("operators", "default_deferrable"): lambda: "False",
    ("scheduler", "catchup_by_default"): lambda: "False",
    ("kubernetes_executor", "worker_container_repository"): lambda: "",
    ("kubernetes_executor", "worker_container_tag"): lambda: "",
    ("kubernetes_executor", "namespace"): lambda: "default",
    ("logging", "base_log_folder"): lambda: os.path.expanduser("~/.ostro/logs"),
    ("logging", "logging_level"): lambda: "INFO",
    ("logging", "remote_logging"): lambda: "False",
    ("api", "base_url"): lambda: os.environ.get("OSTRO_BASE_URL", "http://localhost:8080"),
    ("webserver", "base_url"): lambda: os.environ.get("OSTRO_BASE_URL", "http://localhost:8080"),
    ("email", "email_backend"): lambda: "",
    ("smtp", "smtp_mail_from"): lambda: "airflow@example.com",
}


class Conf:
    """Getters of configuration values by section and key."""

    def get(self, section, key, fallback=NOTSET, **_):
        text = os.environ.get("AIRFLOW__%s__%s" % (section.upper().replace(".", "_"), key.upper()))
        if text is not None:
            return text
        known = _VALUES.get((section.lower(), key.lower()))
        if known is not None:
            return known()
        if fallback is not NOTSET:
            return fallback
        raise AirflowConfigException("section/key [%s/%s] not found in config" % (section, key))

    def get_mandatory_value(self, section, key, **kwargs):
        return self.get(section, key, **kwargs)

    def _as(self, convert, section, key, fallback, kwargs):
        value = self.get(section, key, fallback, **kwargs)
        if value is None or value is fallback and not isinstance(value, str):
            return value
        try:
            return convert(value)
        except ValueError:
            raise AirflowConfigException("failed to convert value of [%s] %s: %r" % (section, key, value)) from None

    def getboolean(self, section, key, fallback=NOTSET, **kwargs):
        return self._as(_boolean, section, key, fallback, kwargs)

    def getint(self, section, key, fallback=NOTSET, **kwargs):
        return self._as(int, section, key, fallback, kwargs)

    def getfloat(self, section, key, fallback=NOTSET, **kwargs):
        return self._as(float, section, key, fallback, kwargs)

    def getlist(self, section, key, fallback=NOTSET, delimiter=",", **kwargs):
        return self._as(lambda text: [one.strip() for one in text.split(delimiter) if one.strip()], section, key,
                        fallback, kwargs)

    def getjson(self, section, key, fallback=NOTSET, **kwargs):
        import json

        return self._as(json.loads, section, key, fallback, kwargs)

    def getimport(self, section, key, **kwargs):
        path = self.get(section, key, **kwargs)
        if not path:
            return None
        module, _, name = path.rpartition(".")
        return getattr(__import__(module, fromlist=[name]), name)

    def gettimedelta(self, section, key, fallback=NOTSET, **kwargs):
        import datetime

        return self._as(lambda text: datetime.timedelta(seconds=int(text)), section, key, fallback, kwargs)

    def has_option(self, section, option, **_):
        try:
            self.get(section, option)
        except AirflowConfigException:
            return False
        return True

    def getsection(self, section, **_):
        return {key: value() for (name, key), value in _VALUES.items() if name == section.lower()} or None

    def has_section(self, section):
        return any(name == section.lower() for name, _ in _VALUES)

    def set(self, section, option, value):
        os.environ["AIRFLOW__%s__%s" % (section.upper(), option.upper())] = str(value)


def _boolean(text):
    word = str(text).split("#")[0].strip().lower()
    if word in ("t", "true", "1", "yes", "on"):
        return True
    if word in ("f", "false", "0", "no", "off"):
        return False
    raise ValueError(text)


conf = Conf()
get, getboolean, getint, getfloat, has_option = conf.get, conf.getboolean, conf.getint, conf.getfloat, conf.has_option
AIRFLOW_HOME = os.environ.get("AIRFLOW_HOME") or os.environ.get("OSTRO_HOME") or os.path.expanduser("~/.ostro")
