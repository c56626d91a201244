"""Runs one attempt of a task, or one callback, in the process that calls it.

Everything that is known about the outcome goes into one terminal message; the callbacks it announces run afterwards and
are confirmed by CallbacksDone, so that whoever reads the messages knows what is still owed if this process dies.
"""

import datetime
import os
import signal
import sys
import threading

from . import callbacks, dates, live, mapping, strayed, tasklog, template, trace
from . import context as contexts
from .comms import FrameTooLarge
from .comms import text_of as wire_text
from .exceptions import (
    AirflowException,
    AirflowFailException,
    AirflowRescheduleException,
    AirflowSensorTimeout,
    AirflowSkipException,
    AirflowTaskTimeout,
    DownstreamTasksSkipped,
    TaskAwaitingInput,
    TaskDeferred,
)
from .shown import repr_of, text_of
from .ti import TaskInstance
from .trace import logged, message, one_line
from .xcom import XComSerializationError, decode, encode, map_length, too_large
from .xcomarg import RETURN_KEY

# The attempt that runs in this process.
_running = None


def run_task(startup, comms, dag):
    """Run the attempt that ``startup`` (StartupDetails) describes; report through ``comms``; never raises."""
    global _running
    before, me = (live.comms, _running), os.getpid()
    live.comms = comms
    _install_logging(startup, comms)
    attempt = _running = _Attempt(startup, comms, dag)
    try:
        attempt.run()
    except BaseException as fault:  # nothing of the author's gets here but in a child of his
        if os.getpid() != me:
            strayed.end(fault)
        tasklog.report("The runtime failed", fault)
        attempt.break_off(fault)
    finally:
        live.comms, _running = before
        _flush()


def on_term():
    """Stop what the running task has started, because the process was asked to end; the caller raises afterwards."""
    if _running is not None and _running.task is not None:
        _running.kill()


def _install_logging(startup, comms):
    bundle = startup.get("bundle_info") or {}
    trace.shown_paths[:] = [(bundle.get("path"), bundle.get("shown_path"))]
    if getattr(comms, "takes_logs", True):
        tasklog.install(comms)


def run_callback(startup, comms, dag):
    """Run the callback that ``startup["callback"]`` names; confirm with CallbacksDone; never raises."""
    before, me = live.comms, os.getpid()
    live.comms = comms
    _install_logging(startup, comms)
    errors = []
    try:
        errors = _run_callback(startup, dag)
    except BaseException as fault:
        if os.getpid() != me:
            strayed.end(fault)
        tasklog.report("The callback could not be run", fault)
        errors = [one_line(fault)]
    finally:
        comms.send({"type": "CallbacksDone", **({"errors": errors} if errors else {})})
        live.comms = before
        _flush()


def _run_callback(startup, dag):
    ask = startup["callback"]
    kind, reason = ask["kind"], ask.get("reason") or ""
    if ask.get("dag"):
        task = dag.task_dict.get(startup["ti"].get("task_id") or "") or next(iter(dag.task_dict.values()))
        owner = dag
    else:
        task = owner = dag.get_task(startup["ti"]["task_id"])
    ti = TaskInstance(startup, task)
    if not startup["ti"].get("task_id"):
        ti.task_id = task.task_id
    ti.state = {"on_success_callback": "success", "on_failure_callback": "failed", "on_retry_callback": "up_for_retry",
                "on_skipped_callback": "skipped"}.get(kind, ti.state)
    ti.end_date = dates.plain(_now())
    context = contexts.build(task, ti, (startup.get("ti_context") or {}).get("dag_run") or {}, ti.startup_context)
    context["reason"] = reason
    if kind in ("on_failure_callback", "on_retry_callback"):
        # The exception died with its process; its words are left.
        context["exception"] = AirflowException(reason) if reason else None
    return callbacks.run(kind, getattr(owner, kind, None), context)


def _now():
    return dates.wire(datetime.datetime.now(dates.utc))


def _log():
    import logging

    return logging.getLogger("airflow.task")


def _flush():
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            pass


class _Named:
    """A trigger that is known by its class's path only."""

    def __init__(self, classpath, kwargs):
        self.serialize = lambda: (classpath, kwargs)


class _Attempt:
    """One attempt from its context to its last callback."""

    def __init__(self, startup, comms, dag):
        self.startup, self.comms, self.dag = startup, comms, dag
        self.task = self.ti = self.context = None
        self.ended = False
        self.process = os.getpid()

    def run(self):
        task_id = self.startup["ti"]["task_id"]
        if self.dag is None or task_id not in self.dag.task_dict:
            self._end("TaskState", state="removed", reason="the DAG has no task %r any more" % task_id)
            return
        declared = self.dag.task_dict[task_id]
        self.task = declared.prepare_for_execution()
        self.ti = TaskInstance(self.startup, self.task)
        self.context = contexts.build(self.task, self.ti, self.ti.startup_context.get("dag_run") or {},
                                      self.ti.startup_context)
        live.contexts.append(self.context)
        try:
            try:
                result = self._work()
                strayed.check(self.process)
            except BaseException as fault:
                if os.getpid() != self.process:
                    raise
                ending = self._ending_of(fault)
            else:
                ending = self._ending_of_result(result)
            self._finish_fitting(*ending)
        finally:
            live.contexts.pop()

    def break_off(self, fault):
        """End the attempt that the runtime has failed at; its callbacks are told of it all the same."""
        if self.ended:
            return
        fields = {"reason": "in the runtime: " + one_line(fault)}
        try:
            if self.context is not None:
                self.context["exception"], self.context["reason"] = fault, fields["reason"]
                live.contexts.append(self.context)
                try:
                    self._finish("RetryTask", fields, self._callback_of_failure())
                finally:
                    live.contexts.pop()
        except Exception as again:
            tasklog.report("The runtime failed again", again)
        if not self.ended:
            self._end("RetryTask", reason=fields["reason"])

    def _callback_of_failure(self, final=False):
        return "on_retry_callback" if self.ti.should_retry and not final else "on_failure_callback"

    # ---- the work ----

    def _work(self):
        context = self.context
        following = self.ti.startup_context.get("next_method")
        if following:
            self.task = self.ti.task = self._instance(context)
            kwargs = decode(self.ti.startup_context.get("next_kwargs") or {})
            return self._timed(lambda: self.task.resume_execution(following, kwargs, context))
        self._render()
        task = self.task
        if task.start_from_trigger and task.start_trigger_args is not None:
            raise self._start_from_trigger(task.start_trigger_args)
        errors = callbacks.run("on_execute_callback", task.on_execute_callback, context)
        if errors:
            live.send({"type": "AddNotice", "text": "; ".join(errors)})
        if task._pre_execute_hook is not None:
            task._pre_execute_hook(context)
        task.pre_execute(context)
        result = self._timed(lambda: task.execute(context))
        if task._post_execute_hook is not None:
            task._post_execute_hook(context, result)
        task.post_execute(context, result)
        return result

    def _start_from_trigger(self, args):
        """Return the deferral a task begins with in place of ``execute``."""
        kwargs = dict(args.trigger_kwargs or {})
        for name in self.task.template_fields:
            if name in kwargs:
                kwargs[name] = self.task.render_template(kwargs[name], self.context)
        return TaskDeferred(trigger=_Named(args.trigger_cls, kwargs), method_name=args.next_method,
                            kwargs=args.next_kwargs, timeout=args.timeout)

    def _instance(self, context):
        """Return the operator that runs: of a mapped task, the instance with its arguments resolved."""
        task = self.task
        if not task.is_mapped:
            return task
        resolved = task.mapping.resolve_at(context, self.ti.map_index)
        made = task.unmap(resolved)
        made.__dict__["_resolved"] = resolved
        return made

    def _render(self):
        task = self.task = self.ti.task = self._instance(self.context)
        renderer = template.Renderer(task, self.context)
        if "_resolved" in task.__dict__:
            literal = getattr(task.__dict__["_unmapped_from"].mapping, "values", None) or {}
            renderer.keep = {id(value) for name, value in task._resolved.items()
                             if not isinstance(value, (str, int, float)) and not isinstance(literal.get(name), list)}
        renderer.render_fields(task)
        task.prepare_template()
        self.ti.send_rendered_fields(task)

    def _timed(self, work):
        seconds = self.startup.get("execution_timeout") or 0
        if not seconds and self.task.execution_timeout is not None:
            seconds = self.task.execution_timeout.total_seconds()
        if not seconds or threading.current_thread() is not threading.main_thread():
            return self._interruptible(work)

        def expire():
            raise AirflowTaskTimeout("the task ran longer than its execution_timeout of %s"
                                     % datetime.timedelta(seconds=seconds))

        # Never inside a frame on the channel: the channel decides when.
        interrupt = getattr(self.comms, "interrupt", lambda handler: handler())
        former = signal.signal(signal.SIGALRM, lambda number, frame: interrupt(expire))
        signal.setitimer(signal.ITIMER_REAL, seconds)
        try:
            return self._interruptible(work)
        except AirflowTaskTimeout:
            signal.setitimer(signal.ITIMER_REAL, 0)
            self.kill()
            raise
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, former)

    def _interruptible(self, work):
        """Do the work; when it is interrupted, as by Ctrl-C, what the operator has started is stopped as well."""
        try:
            return work()
        except KeyboardInterrupt:
            self.kill()
            raise

    def kill(self):
        """Let the operator stop what it has started."""
        try:
            self.task.on_kill()
        except Exception as fault:
            tasklog.report("on_kill failed", fault)

    # ---- how it ended: (message type, fields, callback kind or None) ----

    def _ending_of_result(self, result):
        try:
            fields = {"xcoms": self._xcoms(result)}
            self._map_index()
            if self.task.outlets:
                fields["outlet_events"] = encode(self.context["outlet_events"].dump(self.task.outlets),
                                                 "the extra of an asset event")
            fields["xcoms"] = [one for one in fields["xcoms"] if not self.ti.store_large(one)]
        except BaseException as fault:
            return self._ending_of(fault)
        return "SucceedTask", fields, "on_success_callback"

    def _xcoms(self, result):
        out = self.ti.pending_xcoms()
        self.ti._pending.clear()
        if type(result) in (dict, list) and threading.active_count() > 1:
            result = type(result)(result)  # as it is now, for its length and its elements to agree
        if self.ti.map_index < 0:
            mapping.check_mappable(self.task, result if self.task.do_xcom_push else None)
        if result is None or not self.task.do_xcom_push:
            return out
        what = "what task %r returned" % self.task.task_id
        if self.task.multiple_outputs:
            if not isinstance(result, dict):
                raise TypeError("task %r has multiple_outputs, so it must return a dict, not %s"
                                % (self.task.task_id, type(result).__name__))
            for key, value in result.items():
                if not isinstance(key, str):
                    raise TypeError("task %r has multiple_outputs, so the keys it returns must be text, not %r"
                                    % (self.task.task_id, key))
                out.append({"key": key, "value": encode(value, "%s under %r" % (what, key)),
                            "map_length": map_length(value)})
        out.append({"key": RETURN_KEY, "value": encode(result, what), "map_length": map_length(result)})
        return out

    def _map_index(self):
        template = self.task.map_index_template
        if template and self.ti.map_index >= 0:
            try:
                text = str(self.task.render_template(template, self.context))
            except Exception as fault:  # the work is done; a label is no reason to do it again
                live.send({"type": "AddNotice", "text": "map_index_template: %s" % one_line(fault)})
                return
            self.ti.rendered_map_index = text
            live.send({"type": "SetRenderedMapIndex", "rendered_map_index": text})

    def _ending_of(self, fault):
        if isinstance(fault, DownstreamTasksSkipped):
            from .operators.skipping import send_skips

            send_skips(self.ti, [getattr(task, "task_id", task) for task in fault.tasks])
            return self._ending_of_result(None)
        if isinstance(fault, AirflowSkipException):
            words = text_of(fault)
            tasklog.tell(_log(), "Task is skipped: %s", words)
            return "TaskState", {"state": "skipped", "reason": logged(words)}, "on_skipped_callback"
        if isinstance(fault, AirflowRescheduleException):
            return "RescheduleTask", {"reschedule_date": dates.wire(fault.reschedule_date)}, None
        if isinstance(fault, TaskDeferred):
            return self._deferral(fault)
        if isinstance(fault, TaskAwaitingInput) and fault.form is not None:
            return self._deferral(fault, encode(fault.form, "what is asked"))
        if isinstance(fault, SystemExit) and fault.code in (None, 0) and self.dag.compat == "airflow2":
            return self._ending_of_result(None)
        return self._failure(fault)

    def _deferral(self, fault, form=None):
        if form is not None:
            fields = {"input": form}
        else:
            trigger = fault.trigger
            classpath, kwargs = trigger.serialize() if hasattr(trigger, "serialize") else (type(trigger).__qualname__, {})
            fields = {"classpath": classpath, "trigger_kwargs": encode(kwargs, "the trigger's arguments")}
        fields.update(next_method=fault.method_name, next_kwargs=encode(fault.kwargs or {}, "next_kwargs"))
        if fault.timeout is not None:
            fields["trigger_timeout"] = getattr(fault.timeout, "total_seconds", lambda: float(fault.timeout))()
        return "DeferTask", fields, None

    def _failure(self, fault):
        self.context["exception"] = fault
        if isinstance(fault, SystemExit):
            reason = "the task called sys.exit(%s)" % ("" if fault.code is None else repr_of(fault.code))
        else:
            reason = message(fault)
        self.context["reason"] = reason.split("\n", 1)[0]
        tasklog.report("Task failed with exception", fault)
        fields = {"reason": reason}
        try:
            pending = self.ti.pending_xcoms()
        except Exception:
            pending = []
        if pending:
            fields["xcoms"] = pending
        final = isinstance(fault, (AirflowFailException, AirflowSensorTimeout)) or self._policy_ends(fault, fields)
        if final:
            fields["state"] = "failed"
        return ("TaskState" if final else "RetryTask"), fields, self._callback_of_failure(final)

    def _policy_ends(self, fault, fields):
        """Ask the task's retry policy whether this was the last try; a policy that fails has no say."""
        policy = self.task.retry_policy
        if policy is None or not self.ti.should_retry:
            return False
        try:
            verdict = policy.evaluate(fault, self.ti.try_number, self.ti.max_tries, self.context)
            action = verdict.action.value
        except Exception as broken:
            tasklog.report("the retry policy failed", broken)
            return False
        if action == "fail":
            first, newline, rest = fields["reason"].partition("\n")
            fields["reason"] = "%s (the retry policy: %s)%s" % (first, verdict.reason or "fail", newline + rest)
        elif verdict.retry_delay is not None:
            live.send({"type": "AddNotice", "text": "the retry policy's delay of %s is not kept, retry_delay= of the "
                                                    "task is" % verdict.retry_delay})
        return action == "fail"

    def _finish_fitting(self, kind, fields, callback):
        """Finish; when the XComs are too large to be told, or cannot be, the task has failed for that reason."""
        try:
            return self._finish(kind, fields, callback)
        except FrameTooLarge:
            if self.ended or not fields.get("xcoms"):
                raise
            ending = self._oversized
        except ValueError:
            if self.ended or not fields.get("xcoms"):
                raise
            ending = self._untellable
        self._finish(*ending(fields["xcoms"]))

    def _untellable(self, xcoms):
        """Return the ending of a task with an XCom that JSON cannot hold, such as a number of 5 000 digits."""
        for one in xcoms:
            try:
                wire_text(one["value"])
            except ValueError as fault:
                text = "cannot store %s as JSON: %s. Return text, or save it to a file and return the path"
                found = XComSerializationError(text % (self._name_of(one["key"]), fault))
                return self._without_xcoms(found)
        return self._without_xcoms(ValueError("what the task has to say cannot be written as JSON"))

    def _without_xcoms(self, fault):
        kind, fields, callback = self._failure(fault)
        fields.pop("xcoms", None)
        return kind, fields, callback

    def _name_of(self, key):
        task_id = self.task.task_id
        return "what task %r returned" % task_id if key == RETURN_KEY else "the XCom %r of task %r" % (key, task_id)

    def _oversized(self, xcoms):
        """Return the ending of a task whose XComs no message can carry, with the name of the largest."""
        import json

        sizes = {one["key"]: len(json.dumps(one["value"], ensure_ascii=False).encode("utf-8", "replace")) for one in xcoms}
        largest = max(sizes, key=sizes.get)
        what, size = self._name_of(largest), sizes[largest]
        if len(sizes) > 1:
            what, size = "%s, with the task's other XComs," % what, sum(sizes.values())
        return self._without_xcoms(too_large(what, size))

    def _finish(self, kind, fields, callback):
        given = callbacks.as_list(getattr(self.task, callback, None)) if callback else []
        if given:
            fields["callbacks"] = [callback]
        self.ti.state = {"SucceedTask": "success", "RescheduleTask": "up_for_reschedule", "DeferTask": "deferred"}.get(
            kind, "up_for_retry" if callback == "on_retry_callback" else fields.get("state", "failed"))
        _flush()
        self.ti.end_date = dates.plain(self._end(kind, **fields))
        if given:
            errors = callbacks.run(callback, given, self.context)
            _flush()
            self.comms.send({"type": "CallbacksDone", **({"errors": errors} if errors else {})})

    def _end(self, kind, **fields):
        when = _now()
        message = {"type": kind, **fields}
        if kind != "DeferTask":
            message["end_date"] = when
        self.comms.send({name: value for name, value in message.items() if value not in (None, [], "")
                         or name in ("type",)})
        self.ended = True
        return when
