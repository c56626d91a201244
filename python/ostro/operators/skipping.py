"""How a task makes downstream tasks be skipped."""

from .. import live
from ..exceptions import AirflowException
from ..settings import nearest

XCOM_KEY = "skipmixin_key"


class SkipMixin:
    """For operators that choose among their downstream tasks."""

    def skip(self, ti, tasks):
        """Skip these tasks when this attempt succeeds."""
        ids = [getattr(task, "task_id", task) for task in tasks]
        if not ids:
            return
        ti.add_xcom(XCOM_KEY, {"skipped": ids})
        send_skips(ti, ids)

    def skip_all_except(self, ti, branch_task_ids):
        """Follow the named direct downstream tasks or groups and skip the others."""
        task = ti.task
        chosen = _as_ids(branch_task_ids, task)
        dag = task.dag
        valid = set(dag.task_dict) | set(dag.task_groups)
        unknown = [name for name in chosen if name not in valid]
        if unknown:
            raise AirflowException(
                "the branch callable must return ids of tasks or groups that exist; task %r returned %s%s"
                % (task.task_id, ", ".join(map(repr, unknown)), nearest(unknown[0], task.downstream_task_ids)))
        follow = set()
        for name in chosen:
            follow.update(one.task_id for one in dag.task_groups[name].roots) if name in dag.task_groups else \
                follow.add(name)
        kept = set(follow)
        for name in follow:
            kept |= dag.task_dict[name].get_flat_relative_ids()
        stray = sorted(follow - task.downstream_task_ids)
        if stray:
            ti.log.warning("%s is not directly downstream of %r, so that following it lets nothing run that would not "
                           "run without it", ", ".join(stray), task.task_id)
        if not task.downstream_task_ids:
            return
        followed, skipped = sorted(task.downstream_task_ids & kept), sorted(task.downstream_task_ids - kept)
        ti.add_xcom(XCOM_KEY, {"followed": followed})
        from .. import tasklog

        tasklog.tell(ti.log, "Following branch %s", ", ".join(followed) or "none")
        if skipped:
            send_skips(ti, skipped)


def _as_ids(value, task):
    if value is None:
        return []
    if isinstance(value, str):
        return [value]
    if isinstance(value, (list, tuple, set, frozenset)) and all(isinstance(one, str) for one in value):
        return list(dict.fromkeys(value))
    raise AirflowException("'branch_task_ids' expected all task IDs are text: task %r returned %r"
                           % (task.task_id, value))


def send_skips(ti, ids):
    """Ask for the skips; inside a mapped group only this instance's tasks are meant."""
    group = ti.task.get_closest_mapped_task_group()
    tasks = []
    for name in ids:
        other = ti.task.dag.task_dict[name].get_closest_mapped_task_group() if group is not None else None
        tasks.append([name, ti.map_index] if group is not None and other is group else name)
    live.send({"type": "SkipDownstreamTasks", "tasks": tasks})
