"""Runs the author's callbacks: functions or notifiers, one or a list; a failure is logged and never changes the result."""

from . import live


def as_list(given):
    """Return callbacks as a list."""
    if not given:
        return []
    return list(given) if isinstance(given, (list, tuple, set)) else [given]


def run(kind, callbacks, context):
    """Run callbacks of one kind; return those that raised, as "kind: Error: message"."""
    if not callbacks:
        return []
    import logging
    import os

    from . import strayed, tasklog
    from .trace import one_line

    log = logging.getLogger("airflow.task")
    errors, me = [], os.getpid()
    for callback in as_list(callbacks):
        name = getattr(callback, "__qualname__", type(callback).__name__)
        tasklog.tell(log, "Running %s %s", kind, name)
        try:
            _call(callback, context)
            strayed.check(me)
        except (Exception, SystemExit) as fault:
            if os.getpid() != me:  # a child of the author's
                raise
            tasklog.report("Error when executing %s %s" % (kind, name), fault)
            errors.append("%s %s: %s" % (kind, name, one_line(fault)))
    return errors


def _call(callback, context):
    live.contexts.append(context)
    try:
        callback(context)
    finally:
        live.contexts.pop()


class BaseNotifier:
    """A callback that is an object, with templated fields of its own."""

    template_fields = ()
    template_ext = ()

    def __init__(self, **kwargs):
        self.context = kwargs.get("context")

    @property
    def log(self):
        import logging

        return logging.getLogger("airflow.task.notifiers.%s" % type(self).__name__)

    def __await__(self):
        return self.async_notify(self.context).__await__()

    def notify(self, context):
        """Send the message."""
        raise NotImplementedError("%s has no notify method" % type(self).__name__)

    async def async_notify(self, context):
        raise NotImplementedError("%s has no async_notify method" % type(self).__name__)

    def render_template_fields(self, context, jinja_env=None):
        from .template import Renderer

        Renderer(_Owner(self, context["dag"]), context, jinja_env).render_fields(self)

    def __call__(self, *args):
        context = args[0] if len(args) == 1 and not isinstance(args[0], str) else {
            "dag": args[0], "task_list": args[1], "blocking_task_list": args[2], "slas": args[3],
            "blocking_tis": args[4]} if len(args) == 5 else {}
        rendered = __import__("copy").copy(self)
        if context.get("dag") is not None and self.template_fields:
            rendered.render_template_fields(context)
        rendered.notify(context)


class _Owner:
    """What a Renderer needs to know of whom it renders for."""

    def __init__(self, notifier, dag):
        self.task_id, self.dag = type(notifier).__name__, dag
        self.template_ext, self.render_template_as_native_obj = notifier.template_ext, None
