"""Templates: which values are rendered, with what, and what is told when it cannot be."""

import builtins
import sys

import pytest

from airflow import DAG
from airflow.models.baseoperator import BaseOperator
from airflow.utils.template import literal
from support import START, attempt, write


class Show(BaseOperator):
    template_fields = ("value",)
    template_ext = (".sql",)

    def __init__(self, *, value, **kwargs):
        super().__init__(**kwargs)
        self.value = value

    def execute(self, context):
        return self.value


def render(value, dag_kwargs=None, **kwargs):
    with DAG("d", start_date=START, **(dag_kwargs or {})) as dag:
        Show(task_id="show", value=value, owner="me")
    comms = attempt(dag, "show", **kwargs)
    if comms.terminal["type"] != "SucceedTask":
        return comms.terminal["reason"]
    found = [one["value"] for one in comms.terminal.get("xcoms", ())]
    return found[0] if found else None


@pytest.mark.parametrize("text, want", [
    ("plain", "plain"), ("{{ ds }}", "2024-01-01"), ("{{ ds_nodash }} {{ ts }}", "20240101 2024-01-01T00:00:00+00:00"),
    ("{{ ts_nodash }} {{ ts_nodash_with_tz }}", "20240101T000000 20240101T000000+0000"),
    ("{{ dag.dag_id }}/{{ task.task_id }}/{{ ti.task_id }}/{{ run_id }}", "d/show/show/r1"),
    ("{{ dag_run.conf['x'] }} {{ params.x }}", "7 7"), ("{{ data_interval_end | ds }}", "2024-01-08"),
    ("{{ logical_date | ts_nodash }} {{ execution_date }}", "20240101T000000 2024-01-01 00:00:00+00:00"),
    ("{{ macros.ds_add(ds, 5) }} {{ macros.ds_format(ds, '%Y-%m-%d', '%d/%m') }}", "2024-01-06 01/01"),
    ("{{ (execution_date + macros.timedelta(days=1)).strftime('%d') }}", "02"),
    ("{{ macros.datetime(2024, 1, 2).year }} {{ macros.json.dumps([1]) }}", "2024 [1]"),
    ("{{ tomorrow_ds }} {{ yesterday_ds_nodash }} {{ task.owner }}", "2024-01-02 20231231 me"),
    ("{{ task_instance_key_str }} {{ ti.try_number }}", "d__show__20240101 1"),
    ("{% set x = [] %}{% do x.append(1) %}{{ x }}", "[1]"), ("{{ conf.get('core', 'executor') }}", "LocalExecutor"),
    ("line\n", "line"), ("{{ ds }}\n", "2024-01-01"),
])
def test_a_text_is_rendered(text, want):
    assert render(text, conf={"x": 7}) == want


def test_values_are_rendered_at_any_depth_and_other_types_are_left():
    value = {"a": ["{{ ds }}", 3, {"b": "{{ run_id }}"}], "{{ ds }}": True, "t": None}
    assert render(value) == {"a": ["2024-01-01", 3, {"b": "r1"}], "{{ ds }}": True, "t": None}


def test_a_literal_is_left_alone():
    assert render([literal("{{ ds }}")]) == ["{{ ds }}"]


def test_native_objects_keep_their_type():
    native = {"render_template_as_native_obj": True}
    assert render("{{ dag_run.conf['x'] }}", native, conf={"x": [1, 2]}) == [1, 2]
    assert render("{{ [1, 2] }}") == "[1, 2]"


def test_macros_filters_and_search_path_of_the_dag(tmp_path):
    write(tmp_path, "q.sql", "select {{ twice(2) }} -- {{ 'x' | shout }}\n")
    given = {"user_defined_macros": {"twice": lambda n: 2 * n}, "user_defined_filters": {"shout": str.upper},
             "template_searchpath": str(tmp_path)}
    assert render("q.sql", given) == "select 4 -- X"
    assert render("{% include 'q.sql' %}", given) == "select 4 -- X"


def test_a_file_that_is_not_there_is_told_with_where_it_was_looked_for(tmp_path):
    out = render("none.sql", {"template_searchpath": str(tmp_path)})
    assert "names a file to read, none.sql, which is not in" in out and str(tmp_path) in out


def test_an_undefined_name_is_told_with_field_and_task():
    assert render("{{ nothing }}") == "UndefinedError: 'nothing' is undefined, in 'value' of task 'show': {{ nothing }}"


def test_without_jinja_a_template_is_an_error_that_says_what_to_install(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "jinja2"]:
        monkeypatch.delitem(sys.modules, name)
    real = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name.partition(".")[0] == "jinja2":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    assert render("plain text") == "plain text"
    assert render("on {{ ds }} and {{run_id}}") == "on 2024-01-01 and r1"
    assert render("{{ ds | upper }}") == (
        "AirflowException: 'value' of task 'show' has a template and Jinja2 is not installed in this Python: pip install jinja2")


def test_templates_are_sandboxed():
    assert "access to attribute '__class__' of 'str' object is unsafe" in render("{{ ''.__class__.__mro__ }}")


def test_xcoms_variables_and_connections_in_templates():
    from ostro.localcomms import LocalComms

    comms = LocalComms({"v": "1", "j": '{"a": 2}'}, {"c": "http://me:secret@host:80/x"})
    comms.store({"dag_id": "d", "run_id": "r1", "task_id": "up"}, [{"key": "return_value", "value": "s"}])
    text = ("{{ ti.xcom_pull(task_ids='up') }} {{ var.value.v }} {{ var.json.j.a }} {{ conn.c.host }} "
            "{{ var.value.get('n', 'd') }}")
    assert render(text, comms=comms) == "s 1 2 host d"
    assert comms.masker.mask("my secret") == "my ***"


def test_rendered_fields_are_reported():
    with DAG("d", start_date=START) as dag:
        Show(task_id="show", value=["{{ ds }}", "x" * 5000])
    sent = attempt(dag, "show").of("SetRenderedFields")[0]["rendered_fields"]["value"]
    assert sent[0] == "2024-01-01" and sent[1].startswith("Truncated.")


def test_nested_objects_with_template_fields_are_rendered():
    class Inner:
        template_fields = ("x",)

        def __init__(self, x):
            self.x = x

    inner = Inner("{{ ds }}")

    class Read(Show):
        def execute(self, context):
            return self.value.x

    with DAG("d", start_date=START) as dag:
        Read(task_id="show", value=inner)
    assert attempt(dag, "show").terminal["xcoms"][0]["value"] == "2024-01-01"
    assert inner.x == "{{ ds }}"


def test_a_run_without_a_logical_date_has_no_ds():
    assert "'ds' is undefined" in render("{{ ds }}", logical=None)
    assert render("{{ run_id }} {{ task_instance_key_str }}", logical=None) == "r1 d__show__r1"


@pytest.mark.parametrize("text", [
    "{{ a }}", "x{{a}}y{{ b }}z", "{{a}}{{b}}", "{ {{ a }} }", "{{ a }}\n", "{{ a }}\n\n", "a\r\nb {{ a }}", "{# {{ a }} #}",
    "{% raw %}{{ a }}{% endraw %}", "{{ '{{ a }}' }}", "{{{ a }}}", "{{- a -}} {{ b }}", " {{- a }}", "{{ none }}|{{ None }}",
    "{{ true }}", "{{ a }} }} {{ b }}", "{{ a }}}", "{{ a | upper }}", "{{ a.b }}", "{{ é }}", "{{ a\n}}", "{{\ta }}",
    "{{ self }}", "{{ _a1 }}",
])
def test_a_template_that_only_names_values_means_what_it_means_to_jinja(text):
    import jinja2

    from ostro import template

    values = {"a": "A", "b": 2, "é": "e", "_a1": None}
    cut = template.pieces(text)
    if cut:
        ours = "".join(str(values[part]) if i % 2 else part for i, part in enumerate(cut))
        assert ours == jinja2.Environment().from_string(text).render(values)


def test_most_templates_that_only_name_values_need_no_jinja():
    from ostro import template

    assert template.pieces("out/{{ ds }}/{{run_id}}.csv") == ("out/", "ds", "/", "run_id", ".csv")
    assert template.pieces("{{ a }} }}") == template.pieces("{{ none }} {{ a }}") == template.pieces("plain") == ()
