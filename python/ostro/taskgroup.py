"""TaskGroup: a named box of tasks and groups, with its own default_args, that arrows can lead to and from."""

from . import context_stack
from .baseoperator import check_key
from .exceptions import AirflowException, DuplicateTaskIdFound
from .graph import DependencyMixin, flatten
from .xcomarg import MappedArgument, Reference


class TaskGroup(DependencyMixin):
    """A group of tasks; use it as a context manager."""

    def __init__(self, group_id=None, prefix_group_id=True, parent_group=None, dag=None, default_args=None, tooltip="",
                 ui_color="CornflowerBlue", ui_fgcolor="#000", add_suffix_on_collision=False, group_display_name="",
                 _root=False):
        self.prefix_group_id, self.default_args = prefix_group_id, dict(default_args or {})
        self.tooltip, self.ui_color, self.ui_fgcolor = tooltip, ui_color, ui_fgcolor
        self._display_name, self.children, self.mapping = group_display_name, {}, None
        self._scope = None
        if _root:
            self._group_id, self.parent_group, self.dag = None, None, dag
            return
        self.dag = dag or (parent_group.dag if parent_group is not None else None) or context_stack.current_dag()
        if self.dag is None:
            raise RuntimeError("TaskGroup %r is made outside of any DAG: use it inside `with DAG(...)` or give dag="
                               % (group_id,))
        self.parent_group = parent_group or context_stack.current_group(self.dag)
        check_key(group_id, "group_id", 200)
        if "." in group_id and prefix_group_id:
            raise AirflowException("the group_id %r must not contain dots" % group_id)
        self._group_id = self._free_id(group_id, add_suffix_on_collision)
        self.parent_group.add(self)
        self.dag.task_groups[self.group_id] = self

    def _free_id(self, group_id, add_suffix):
        taken = set(self.dag.task_groups) | set(self.dag.task_dict)
        if self.parent_group.child_id(group_id) not in taken:
            return group_id
        if not add_suffix:
            raise DuplicateTaskIdFound("group id %r has already been added to the DAG %r"
                                       % (self.parent_group.child_id(group_id), self.dag.dag_id))
        number = 1
        while self.parent_group.child_id("%s__%d" % (group_id, number)) in taken:
            number += 1
        return "%s__%d" % (group_id, number)

    @classmethod
    def create_root(cls, dag):
        return cls(dag=dag, _root=True)

    def __repr__(self):
        return "<TaskGroup: %s>" % (self.group_id or "root")

    @property
    def is_root(self):
        return self._group_id is None

    @property
    def group_id(self):
        """The id with the prefixes of the groups around it."""
        if self._group_id is None:
            return None
        return self.parent_group.child_id(self._group_id)

    @property
    def node_id(self):
        return self.group_id

    @property
    def label(self):
        return self._group_id

    @property
    def group_display_name(self):
        return self._display_name or self.label

    def child_id(self, label):
        """Return the id of a task or group called ``label`` in here.

        A group that does not prefix leaves out the groups around it as well, as in Airflow.
        """
        if self.is_root or not self.prefix_group_id:
            return label
        return "%s.%s" % (self.group_id, label)

    def add(self, node):
        """Put a task or a group in here."""
        if node.node_id in self.children and self.children[node.node_id] is not node:
            raise DuplicateTaskIdFound("id %r has already been added to the DAG" % node.node_id)
        self.children[node.node_id] = node
        return node

    def __enter__(self):
        context_stack.groups.append(self)
        return self

    def __exit__(self, *_):
        context_stack.groups.pop()

    def __iter__(self):
        """Yield every task inside, at any depth."""
        for child in self.children.values():
            if isinstance(child, TaskGroup):
                yield from child
            else:
                yield child

    def iter_tasks(self):
        return iter(self)

    def has_task(self, task):
        return any(one is task for one in self)

    def get_child_by_label(self, label):
        return self.children[self.child_id(label)]

    @property
    def roots(self):
        """The tasks inside that wait for nothing inside."""
        inside = {task.task_id for task in self}
        return [task for task in self if not task.upstream_task_ids & inside]

    @property
    def leaves(self):
        """The tasks inside that nothing inside waits for; a teardown gives way to what it tears down."""
        inside = {task.task_id: task for task in self}

        def is_leaf(task):
            return all(inside[name].is_teardown for name in task.downstream_task_ids if name in inside)

        found = [task for task in inside.values() if not task.is_teardown and not task.is_setup and is_leaf(task)]
        return found or [task for task in inside.values() if is_leaf(task)]

    def get_roots(self):
        return self.roots

    def get_leaves(self):
        return self.leaves

    def add_task(self, task):
        return self.add(task)

    def iter_mapped_task_groups(self):
        group = self
        while group is not None:
            if group.mapping is not None:
                yield group
            group = group.parent_group


class _GroupFactory:
    """What @task_group makes of a function: call it to build the group."""

    def __init__(self, function, group_kwargs, partial=None):
        self.function, self.group_kwargs, self.partial_kwargs = function, group_kwargs, partial or {}
        self.__name__, self.__doc__ = getattr(function, "__name__", "task_group"), function.__doc__
        self.__wrapped__ = function

    def _group(self):
        kwargs = dict(self.group_kwargs)
        kwargs.setdefault("group_id", self.function.__name__)
        kwargs.setdefault("add_suffix_on_collision", True)
        if not kwargs.get("tooltip") and self.function.__doc__:
            kwargs["tooltip"] = self.function.__doc__.strip()
        return TaskGroup(**kwargs)

    def _fill(self, group, args, kwargs):
        with group:
            result = self.function(*args, **dict(self.partial_kwargs, **kwargs))
        if result is None:
            return group
        leaves = list(flatten(result)) if isinstance(result, (list, tuple, DependencyMixin)) else []
        return result if leaves or isinstance(result, (dict, Reference)) else group

    def __call__(self, *args, **kwargs):
        return self._fill(self._group(), args, kwargs)

    def override(self, **kwargs):
        return _GroupFactory(self.function, dict(self.group_kwargs, **kwargs), self.partial_kwargs)

    def partial(self, **kwargs):
        return _GroupFactory(self.function, self.group_kwargs, dict(self.partial_kwargs, **kwargs))

    def expand(self, **mapped):
        from .mapping import ExpandInput

        if not mapped:
            raise TypeError("no arguments to expand against")
        for name, value in mapped.items():
            if isinstance(value, MappedArgument):
                raise ValueError("mapping a group over an argument of the mapped group around it is not supported: expand(%s=...)"
                                 % name)
        return self._expand(ExpandInput(mapped), mapped)

    def expand_kwargs(self, kwargs):
        from .baseoperator import parameter_names
        from .mapping import ExpandKwargsInput

        positional, keyword = parameter_names(self.function)
        return self._expand(ExpandKwargsInput(kwargs), [name for name in positional + keyword
                                                        if name not in self.partial_kwargs])

    def _expand(self, mapping, names):
        group = self._group()
        if any(True for _ in group.parent_group.iter_mapped_task_groups()):
            raise NotImplementedError("a mapped task group inside a mapped task group is not supported: %r"
                                      % group.group_id)
        group.mapping = mapping
        result = self._fill(group, (), {name: MappedArgument(group, name) for name in names})
        for upstream in {id(task): task for task in mapping.iter_references()}.values():
            for root in group.roots:
                if root is not upstream:
                    root.set_upstream(upstream)
        return result


def task_group(group_id=None, **kwargs):
    """Make a task group of a function; the tasks it calls are inside."""
    if callable(group_id):
        return _GroupFactory(group_id, kwargs)
    if group_id is not None:
        kwargs["group_id"] = group_id
    return lambda function: _GroupFactory(function, kwargs)
