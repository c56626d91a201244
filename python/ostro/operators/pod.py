"""KubernetesPodOperator: holds every argument of the provider's; without a cluster it runs the command on this machine.

Which image runs how is the installation's configuration (``pods: process`` and ``images:``). What an argument would do
to a pod and cannot do to a process is said on the task instance, argument by argument; nothing is dropped in silence.
"""

import os
import sys

from .. import live
from ..baseoperator import BaseOperator
from ..exceptions import AirflowException, AirflowFailException, AirflowSkipException
from ..quantity import FLAT_KEYS, is_template, limits_of, parse, parse_pod, split
from ..settings import nearest, warn_once
from .process import describe_exit, run_streaming

# Arguments that mean something to a pod and nothing to a process, with what would come of them.
WITHOUT_EFFECT = {
    "namespace": "there is no cluster namespace", "kubernetes_conn_id": "no cluster is asked",
    "ports": "a process opens its ports itself", "volume_mounts": "nothing is mounted",
    "volumes": "nothing is mounted", "in_cluster": "no cluster is asked", "cluster_context": "no cluster is asked",
    "labels": "there is no pod to label", "annotations": "there is no pod to annotate",
    "reattach_on_restart": "the worker itself outlives the server", "affinity": "there is one machine",
    "startup_timeout_seconds": "a process starts at once", "startup_check_interval_seconds": "a process starts at once",
    "schedule_timeout_seconds": "a process starts at once", "config_file": "no cluster is asked",
    "node_selector": "there is one machine", "image_pull_secrets": "no image is pulled",
    "image_pull_policy": "no image is pulled", "service_account_name": "there is no service account",
    "automount_service_account_token": "there is no service account", "hostnetwork": "a process uses the host's network",
    "host_aliases": "names are the host's", "tolerations": "there is one machine",
    "security_context": "the process runs as the worker's user",
    "container_security_context": "the process runs as the worker's user", "dnspolicy": "names are the host's",
    "dns_config": "names are the host's", "hostname": "the process has the host's name",
    "subdomain": "the process has the host's name", "schedulername": "there is no cluster scheduler",
    "full_pod_spec": "there is no pod", "init_containers": "they are not run", "pod_template_file": "there is no pod",
    "pod_template_dict": "there is no pod", "priority_class_name": "there is no pod",
    "pod_runtime_info_envs": "there is no pod to ask", "termination_grace_period": "the worker's kill_grace applies",
    "configmaps": "there is no cluster to read them from", "secrets": "there is no cluster to read them from",
    "env_from": "there is no cluster to read them from", "deferrable": "the process is waited for",
    "on_finish_action": "there is no pod to keep or delete", "is_delete_operator_pod": "there is no pod to delete",
    "termination_message_policy": "there is no pod", "active_deadline_seconds": "use execution_timeout",
    "callbacks": "there is no pod life cycle to follow", "progress_callback": "unused in the provider too",
    "base_container_name": "there is one process", "init_container_logs": "there are no init containers",
    "container_logs": "there is one process", "log_pod_spec_on_failure": "there is no pod",
    "log_events_on_failure": "there is no cluster to ask for events", "trigger_kwargs": "the process is waited for",
    "poll_interval": "the process is waited for", "logging_interval": "output is passed on as it comes",
    "base_container_status_polling_interval": "the process is waited for", "name": "a process has no pod name",
    "random_name_suffix": "a process has no pod name", "log_formatter": "output is passed on unmodified",
    "container_name_log_prefix_enabled": "output is passed on unmodified",
}
# Spellings of older providers.
_RENAMED = {"node_selectors": "node_selector", "xcom_push": "do_xcom_push", "security_contexts": "security_context",
            "hostAliases": "host_aliases"}


class KubernetesPodOperator(BaseOperator):
    """Runs a command of an image."""

    template_fields = (
        "image", "name", "hostname", "cmds", "annotations", "arguments", "env_vars", "labels", "config_file",
        "pod_template_file", "pod_template_dict", "namespace", "container_resources", "volumes", "volume_mounts",
        "cluster_context", "env_from", "node_selector", "kubernetes_conn_id", "base_container_name", "trigger_kwargs")
    template_fields_renderers = {"cmds": "py", "arguments": "py", "env_vars": "py"}
    ui_color = "#326ce5"
    shown_module = "airflow.providers.cncf.kubernetes.operators.pod"
    runtime_modules = ("subprocess", "shutil", "tempfile", "threading", "fnmatch", "json")
    shown_fields = ("do_xcom_push", "get_logs", "tolerations")
    mapped_defaults = {"do_xcom_push": False}
    BASE_CONTAINER_NAME = "base"

    def __init__(self, *, kubernetes_conn_id="kubernetes_default", namespace=None, image=None, name=None,
                 random_name_suffix=True, cmds=None, arguments=None, ports=None, volume_mounts=None, volumes=None,
                 env_vars=None, env_from=None, secrets=None, in_cluster=None, cluster_context=None, labels=None,
                 reattach_on_restart=True, startup_timeout_seconds=120, startup_check_interval_seconds=5,
                 schedule_timeout_seconds=None, get_logs=True, base_container_name=None,
                 base_container_status_polling_interval=1, init_container_logs=None, container_logs=None,
                 image_pull_policy=None, annotations=None, container_resources=None, affinity=None, config_file=None,
                 node_selector=None, image_pull_secrets=None, service_account_name=None,
                 automount_service_account_token=None, hostnetwork=False, host_aliases=None, tolerations=None,
                 security_context=None, container_security_context=None, dnspolicy=None, dns_config=None,
                 hostname=None, subdomain=None, schedulername=None, full_pod_spec=None, init_containers=None,
                 log_events_on_failure=False, do_xcom_push=False, pod_template_file=None, pod_template_dict=None,
                 priority_class_name=None, pod_runtime_info_envs=None, termination_grace_period=None, configmaps=None,
                 skip_on_exit_code=None, deferrable=False, poll_interval=2, log_pod_spec_on_failure=True,
                 on_finish_action="delete_pod", is_delete_operator_pod=None, termination_message_policy="File",
                 active_deadline_seconds=None, callbacks=None, progress_callback=None, logging_interval=None,
                 trigger_kwargs=None, container_name_log_prefix_enabled=True, log_formatter=None, resources=None,
                 node_selectors=None, xcom_push=None, **kwargs):
        given = {name: value for name, value in locals().items() if name not in ("self", "kwargs", "__class__")}
        given.update(self._renamed(given))
        super().__init__(do_xcom_push=given.pop("do_xcom_push"), **kwargs)
        container_resources = self._resources(given.pop("resources"), given["container_resources"])
        given["container_resources"] = container_resources
        given["cmds"], given["arguments"] = _text_list(given["cmds"]), _text_list(given["arguments"])
        given["env_vars"] = _env_vars(given["env_vars"])
        secrets_text = given["image_pull_secrets"]
        if isinstance(secrets_text, str):
            given["image_pull_secrets"] = [one.strip() for one in secrets_text.split(",") if one.strip()]
        codes = given["skip_on_exit_code"]
        given["skip_on_exit_code"] = (list(codes) if isinstance(codes, (list, tuple, set)) else [] if codes is None
                                      else [codes])
        for name, value in given.items():
            setattr(self, name, value)
        self._child = None

    def _renamed(self, given):
        out = {}
        for old, new in _RENAMED.items():
            value = given.pop(old, None)
            if value is not None:
                warn_once("pod " + old, "%s= is an old spelling of %s=" % (old, new))
                out[new] = value
        return out

    def _resources(self, legacy, container_resources):
        """Take the flat dict of older providers, and say which of its keys is misspelt."""
        if legacy is None:
            return container_resources
        if isinstance(legacy, dict):
            for key in legacy:
                if key not in FLAT_KEYS:
                    raise TypeError("resources= of task %r: unknown key %r%s"
                                    % (self.task_id, key, nearest(key, FLAT_KEYS)))
        warn_once("pod resources", "resources= of a pod is the old spelling of container_resources="
                  "V1ResourceRequirements(...)")
        return container_resources if container_resources is not None else legacy

    def requested_resources(self):
        """Return what the container asks for: cores, bytes, GPUs."""
        return parse_pod(self.container_resources)

    @staticmethod
    def resources_of(kwargs):
        return parse_pod(kwargs.get("container_resources") or kwargs.get("resources"))

    # ---- running ----

    def execute(self, context):
        pods = context["ti"].startup.get("pods")
        settings = self._settings(pods)
        self._say_what_has_no_effect(pods)
        argv = [str(word) for word in list(self.cmds or []) + list(self.arguments or [])]
        if not self.cmds:
            raise AirflowException(
                "task %r gives no cmds=, so the image's own entrypoint would run; as a local process there is none: "
                "give cmds=[...]" % self.task_id)
        python = settings.get("python") or sys.executable
        if argv[0] in ("python", "python3"):
            argv[0] = python
        folder = settings.get("dir") or None
        if folder and not os.path.isdir(folder):
            raise AirflowException("the folder of image %s does not exist: %s (images: … dir: in %s)"
                                   % (self.image, folder, _config(pods)))
        return self._run(argv, folder, settings, python, pods, context)

    def _run(self, argv, folder, settings, python, pods, context):
        import shutil

        scratch = _scratch(context["ti"].startup) if self.do_xcom_push else None
        before = _traces(SIDECAR_PATH)
        try:
            env = self._environment(settings, python, scratch)
            self.log.info("Running image %s as a process in %s: %s", self.image, folder or os.getcwd(), argv)
            try:
                run_streaming(argv, self, cwd=folder, env=env, merge_stderr=False, prepare=self._limits(pods),
                              watch=os.path.dirname(SIDECAR_PATH).encode())
            except FileNotFoundError as fault:
                raise AirflowException("cannot run %r for image %s: no such program (folder %s)"
                                       % (argv[0], self.image, folder or os.getcwd())) from fault
            code, _ = self._child.wait()
            result = self._read_xcom(scratch, before, code) if scratch else None
        finally:
            if scratch:
                shutil.rmtree(scratch, ignore_errors=True)
        if code and not scratch and self._child.seen and not os.path.isdir(os.path.dirname(SIDECAR_PATH)):
            self.log.warning("%s is there in a pod with do_xcom_push=True, as is OSTRO_XCOM_PATH here; this task does not say so",
                             SIDECAR_PATH)
        if code in self.skip_on_exit_code:
            raise AirflowSkipException("image %s returned exit code %d. Skipping." % (self.image, code))
        if code != 0:
            if result is not None:
                context["ti"].add_xcom("return_value", result)
            raise AirflowException("the command of image %s failed with exit code %s" % (self.image,
                                                                                         describe_exit(code)))
        return result

    def _settings(self, pods):
        config = _config(pods)
        if not pods or pods.get("mode") != "process":
            raise AirflowException(
                'KubernetesPodOperator (task %r) has no cluster to run in. To run its commands as processes of this '
                'machine, add to %s two lines, pods: process and images: {"%s": {dir: /path/to/the/folder}}, and start the '
                'server again\nIn full:\n%s'
                % (self.task_id, config, _glob(self.image), _yaml(self.image, "pods: process\nimages:\n")))
        if not self.image:
            raise AirflowException("task %r gives no image=; as a local process it needs one to find its folder, and one "
                                   "in a pod template or full_pod_spec is not read" % self.task_id)
        images = pods.get("images") or {}
        found = match_image(self.image, images)
        if found is None:
            # The first line is what is shown as the reason, so it holds everything that is needed.
            line = '"%s": {dir: /path/to/the/folder}' % _glob(self.image)
            where, head = ("under images: in %s add %s" % (config, line), "") if images else (
                "add to %s images: {%s}" % (config, line), "images:\n")
            raise AirflowException("image %s (task %r) is not mapped to a folder of this machine: %s, and start the server "
                                   "again\nIn full:\n%s" % (self.image, self.task_id, where, _yaml(self.image, head)))
        return found

    def _environment(self, settings, python, scratch):
        env = dict(os.environ)
        env.update(settings.get("env") or {})
        env.update(self._own_variables())
        folder = os.path.dirname(python)
        if settings.get("python") and folder:
            env["PATH"] = folder + os.pathsep + env.get("PATH", "")
            env.pop("PYTHONHOME", None)
        # The runtime's own path is for tasks, not for other programs.
        env.pop("PYTHONPATH", None) if "PYTHONPATH" not in (settings.get("env") or {}) else None
        env.setdefault("PYTHONUNBUFFERED", "1")
        for name in ("OSTRO_XCOM_PATH", "AIRFLOW_XCOM_PATH"):
            env.pop(name, None)  # that of a pod around this one
            if scratch:
                env[name] = os.path.join(scratch, "return.json")
        return {name: str(value) for name, value in env.items()}

    def _own_variables(self):
        out = {}
        for one in self.env_vars or []:
            name = one.get("name") if isinstance(one, dict) else one.name
            value = one.get("value") if isinstance(one, dict) else one.value
            source = one.get("value_from") if isinstance(one, dict) else getattr(one, "value_from", None)
            if value is None and source is not None:
                _notice("env_vars: %s takes its value from the cluster, which is not here; it is not set" % name)
                continue
            out[name] = "" if value is None else str(value)
        return out

    def _limits(self, pods):
        """Under ``resources: strict`` return what sets the limits in the child."""
        if not pods.get("strict"):
            return None
        limits = limits_of(self.container_resources)
        memory = limits.get("memory")
        if not memory:
            return None

        def limit():
            import resource

            resource.setrlimit(resource.RLIMIT_AS, (int(memory), int(memory)))

        return limit

    def _read_xcom(self, scratch, before, code):
        import json

        path = os.path.join(scratch, "return.json")
        try:
            with open(path, encoding="utf-8") as handle:
                text = handle.read()
        except FileNotFoundError:
            if _traces(SIDECAR_PATH) not in (None, before):
                self._say_where_the_xcom_belongs("was written while the command ran, but")
            elif code and self._child.seen and not os.path.isdir(os.path.dirname(SIDECAR_PATH)):
                self._say_where_the_xcom_belongs("is a pod's; it is not there, and")
            elif not code:
                self.log.info("The command wrote no XCom to %s (the path is in OSTRO_XCOM_PATH; in a pod it is %s)",
                              path, SIDECAR_PATH)
            return None
        if not text.strip():
            return None
        try:
            return json.loads(text)
        except ValueError as fault:
            raise AirflowException("the XCom that image %s wrote is not JSON: %s" % (self.image, fault)) from None

    def _say_where_the_xcom_belongs(self, what):
        text = ("no XCom: %s %s to local processes it is one file for all tasks and so is not read. Write to the path in the "
                "environment variable OSTRO_XCOM_PATH, and where that is not set, in a pod, to %s: "
                "os.environ.get(\"OSTRO_XCOM_PATH\", \"%s\")" % (SIDECAR_PATH, what, SIDECAR_PATH, SIDECAR_PATH))
        self.log.warning("%s", text)
        _notice(text)

    def _say_what_has_no_effect(self, pods):
        for name, why in WITHOUT_EFFECT.items():
            value = getattr(self, name, None)
            if value is not None and value != _DEFAULTS.get(name) and value not in ([], {}, ()):
                _notice("%s has no effect as a local process: %s" % (name, why))
        if not self.get_logs:
            _notice("get_logs=False has no effect as a local process: the output is always kept")
        asked = self.requested_resources()
        have = pods.get("gpus", 0)
        strict = pods.get("strict")
        if asked.get("gpus", 0) > have:
            text = "%d GPU%s asked for, this machine has %s" % (
                asked["gpus"], "" if asked["gpus"] == 1 else "s", have or "none")
            if strict:
                raise AirflowFailException("image %s: %s (resources: strict)" % (self.image, text))
            _notice(text + "; the task runs all the same")
        if strict:
            _refuse_too_much(asked, self.image)
        self._say_what_is_advisory(asked, strict)

    def _say_what_is_advisory(self, asked, strict):
        requests, limits = split(self.container_resources)
        others = sorted((name, value) for name, value in dict(requests, **limits).items()
                        if name not in ("cpu", "memory") and not name.endswith("/gpu"))
        if strict:
            if "cpu" in limits:
                _notice("the limit of cpu has no effect as a local process: it may use every core")
            for name, _ in others:
                _notice("%s has no effect as a local process: it is not measured" % name)
            return
        words = ["%g CPU" % asked["cpu"]] if asked.get("cpu") else []
        if asked.get("memory"):
            words.append("%.4g GiB memory" % (asked["memory"] / 2**30))
        words += ["at most %s %s" % (limits[name], name) for name in ("cpu", "memory")
                  if name in limits and (is_template(limits[name]) or parse(limits[name]) != asked.get(name))]
        words += ["%s %s" % (value, name) for name, value in others]
        if words:
            _notice("resources are advisory as a local process (resources: strict makes them binding): %s"
                    % ", ".join(words))

    def on_kill(self):
        if self._child is not None:
            self._child.kill_tree()

    def dry_run(self):
        print({name: getattr(self, name) for name in ("image", "cmds", "arguments", "namespace")})


# Where a command in a pod leaves its XCom.
SIDECAR_PATH = "/airflow/xcom/return.json"


def _scratch(startup):
    """Make the folder for an XCom. The worker removes the one it is in, also when this process is killed."""
    import tempfile

    from ..scratch import place

    return tempfile.mkdtemp(prefix="ostro-xcom-", dir=place(startup))


def _traces(path):
    """Return what changes when a file is written, None if there is no such file."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size


def _notice(text):
    live.send({"type": "AddNotice", "text": text})


def _config(pods):
    return (pods or {}).get("config_file") or "ostro.yaml"


def _yaml(image, head):
    text = '  "%s":\n    dir: /path/to/the/image\'s/working/directory\n' % _glob(image)
    return head + text + "    # python: /path/to/its/python   (optional)\n    # env: {NAME: value}            (optional)"


def _glob(image):
    name = (image or "IMAGE").partition("@")[0]
    head, colon, tag = name.rpartition(":")
    return head + ":*" if colon and "/" not in tag else name + "*"


def match_image(image, images):
    """Return the settings of the longest glob that matches; an image without a tag is also tried as :latest."""
    from fnmatch import fnmatchcase

    names = [image or ""]
    if ":" not in names[0].rpartition("/")[2]:
        names.append(names[0] + ":latest")
    found = [glob for glob in images if any(fnmatchcase(name, glob) for name in names)]
    return images[max(found, key=len)] if found else None


def _refuse_too_much(asked, image):
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if asked.get("cpu", 0) > cores:
        raise AirflowFailException("image %s asks for %g CPU, this machine has %d (resources: strict)"
                               % (image, asked["cpu"], cores))
    if asked.get("memory", 0) > memory:
        raise AirflowFailException("image %s asks for %.4g GiB memory, this machine has %.4g (resources: strict)"
                               % (image, asked["memory"] / 2**30, memory / 2**30))


def _text_list(value):
    if value is None:
        return []
    return [value] if isinstance(value, str) else list(value) if isinstance(value, (tuple, set)) else value


def _env_vars(given):
    if isinstance(given, dict):
        return [{"name": name, "value": value} for name, value in given.items()]
    return given if isinstance(given, str) or given is None else list(given)


def _defaults():
    code = KubernetesPodOperator.__init__.__wrapped__
    return dict(code.__kwdefaults__)


_DEFAULTS = _defaults()
