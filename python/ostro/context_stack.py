"""Which DAG, task group and setup/teardown scope are open while a DAG file is being imported."""

dags = []
groups = []
scopes = []
# DAGs that were opened with ``with`` or made by @dag, in order; the loader collects them.
registered = []
# Whether an instance of a mapped task is being made: its place in the graph is the mapped task's.
unmapping = False


def current_dag():
    return dags[-1] if dags else None


def current_group(dag):
    """Return the innermost open group of ``dag``, its root group if none is open, None without a DAG."""
    if groups and (dag is None or groups[-1].dag is dag):
        return groups[-1]
    return dag.task_group if dag is not None else None


def reset():
    del dags[:], groups[:], scopes[:], registered[:]


class DagContext:
    """Airflow's name for the stack of open DAGs."""

    @classmethod
    def get_current(cls):
        return current_dag()

    get_current_dag = get_current


class TaskGroupContext:
    """Airflow's name for the stack of open task groups."""

    @classmethod
    def get_current(cls, dag=None):
        return current_group(dag or current_dag())

    get_current_task_group = get_current
