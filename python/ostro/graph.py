"""Edges: ``>>``, ``<<``, chain, labels. Everything that can stand at the end of an arrow is a DependencyMixin."""

from . import context_stack


class DependencyMixin:
    """Something with roots and leaves that arrows can lead to and from: an operator, a group, an XComArg."""

    @property
    def roots(self):
        """The tasks an arrow into this leads to."""
        raise NotImplementedError

    @property
    def leaves(self):
        """The tasks an arrow out of this starts from."""
        raise NotImplementedError

    def set_upstream(self, other, edge_modifier=None):
        """Make this wait for ``other``."""
        connect(other, self, edge_modifier)

    def set_downstream(self, other, edge_modifier=None):
        """Make ``other`` wait for this."""
        connect(self, other, edge_modifier)

    def as_setup(self):
        for task in self.leaves:
            task.is_setup = True
        return self

    def as_teardown(self, *, setups=None, on_failure_fail_dagrun=None):
        for task in self.leaves:
            task._become_teardown(setups, on_failure_fail_dagrun)
        return self

    def __rshift__(self, other):
        self.set_downstream(other)
        return other

    def __lshift__(self, other):
        self.set_upstream(other)
        return other

    def __rrshift__(self, other):
        self.__lshift__(other)
        return self

    def __rlshift__(self, other):
        self.__rshift__(other)
        return self


def flatten(items):
    """Yield the nodes of a node or of nested lists, tuples and sets of nodes."""
    if isinstance(items, (list, tuple, set, frozenset)):
        for item in items:
            yield from flatten(item)
    elif isinstance(items, DependencyMixin):
        yield items
    else:
        raise TypeError("relationships can only be set between operators, task groups and XComArgs; received %s %r"
                        % (type(items).__name__, items))


def connect(upstream, downstream, edge_modifier=None):
    """Draw the arrows from every leaf of ``upstream`` to every root of ``downstream``."""
    for before in flatten(upstream):
        for after in flatten(downstream):
            if isinstance(before, EdgeModifier) or isinstance(after, EdgeModifier):
                _connect_modifier(before, after)
                continue
            for source in list(before.leaves):
                for target in list(after.roots):
                    _edge(source, target, edge_modifier)


def _connect_modifier(before, after):
    if isinstance(before, EdgeModifier):
        before.set_downstream(after)
    else:
        after.set_upstream(before)


def _edge(source, target, edge_modifier):
    dag = source.dag or target.dag
    if dag is None:
        raise RuntimeError("cannot set a relationship between %r and %r: neither is in a DAG yet"
                           % (source.task_id, target.task_id))
    if source.dag is not None and target.dag is not None and source.dag is not target.dag:
        raise RuntimeError("cannot set a relationship between %r in DAG %r and %r in DAG %r"
                           % (source.task_id, source.dag.dag_id, target.task_id, target.dag.dag_id))
    for task in (source, target):
        if task.dag is None:
            task.dag = dag
    source.downstream_task_ids.add(target.task_id)
    target.upstream_task_ids.add(source.task_id)
    if edge_modifier is not None and edge_modifier.label:
        dag.edge_labels[(source.task_id, target.task_id)] = edge_modifier.label


class EdgeModifier(DependencyMixin):
    """Text on an edge: ``a >> Label("if new") >> b``."""

    def __init__(self, label=None):
        self.label = label
        self._upstream, self._downstream = [], []

    @property
    def roots(self):
        return [root for node in self._downstream for root in node.roots]

    @property
    def leaves(self):
        return [leaf for node in self._upstream for leaf in node.leaves]

    def set_upstream(self, other, edge_modifier=None):
        self._upstream += flatten(other)
        self._join()

    def set_downstream(self, other, edge_modifier=None):
        self._downstream += flatten(other)
        self._join()

    def _join(self):
        if self._upstream and self._downstream:
            connect(self._upstream, self._downstream, self)


def Label(label):
    """Return text to put between two tasks."""
    return EdgeModifier(label)


def _is_list(item):
    return isinstance(item, (list, tuple))


def chain(*tasks):
    """Link in a row; two neighbouring lists of one length are linked pairwise."""
    for before, after in zip(tasks, tasks[1:]):
        if _is_list(before) and _is_list(after):
            if len(before) != len(after):
                raise ValueError("chain not supported for lists of different length: %d and %d"
                                 % (len(before), len(after)))
            for one, other in zip(before, after):
                connect(one, other)
        else:
            connect(before, after)


def chain_linear(*elements):
    """Link in a row; every element of one list leads to every element of the next."""
    if len(elements) < 2:
        raise ValueError("chain_linear needs two elements or more, got %d" % len(elements))
    kept = [element for element in elements if element or not _is_list(element)]
    for before, after in zip(kept, kept[1:]):
        connect(before, after)


def cross_downstream(from_tasks, to_tasks):
    """Make every task of one list lead to every task of the other."""
    connect(from_tasks, to_tasks)


class SetupTeardownScope:
    """``with teardown:`` – every task made inside runs between the setups and the teardown."""

    def __init__(self, tasks):
        self.tasks = list(tasks)
        self.inside = []

    def __enter__(self):
        context_stack.scopes.append(self)
        return self

    def __exit__(self, *_):
        context_stack.scopes.remove(self)
        self.close()

    def add_task(self, task):
        """Put a task made elsewhere into the scope."""
        self.inside += list(task.roots)

    def close(self):
        teardowns = [task for task in self.tasks if task.is_teardown]
        setups = [task for task in self.tasks if task.is_setup]
        for teardown in teardowns:
            setups += [up for up in teardown.upstream_list if up.is_setup]
        known = {task.task_id for task in self.inside}
        for task in self.inside:
            if task.is_setup or task.is_teardown:
                continue
            if not task.upstream_task_ids & known:
                connect(setups, task)
            if not any(not task.dag.task_dict[name].is_teardown for name in task.downstream_task_ids & known):
                connect(task, [one for one in teardowns if one is not task])
