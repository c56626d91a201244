"""The text of a value in a log."""

import collections
import sys
import threading

import pytest
from test_runner import end, fail

from ostro.exceptions import AirflowSkipException, AirflowTaskTimeout
from ostro.shown import text_of
from ostro.xcom import decode, encode

Pair = collections.namedtuple("Pair", "a b")


class Refuses:
    def __repr__(self):
        raise RuntimeError("not now")


@pytest.mark.parametrize("value", [
    None, True, 1, 2.5, "text", b"bytes", [], (), {}, set(), frozenset(), [1], (1,), ((1,), [2, (3,)]), {1}, frozenset({1}),
    {"a": [1, {"b": (None,)}], 2: {3: {}}}, [Pair(1, [2]), collections.OrderedDict(a=1)], [b"x", "y'\n"], {(1, 2): [(3, 4)]},
])
def test_it_is_what_str_makes_of_it(value):
    assert text_of(value) == str(value)


def test_what_contains_itself_is_shown_like_python_shows_it():
    several = [1]
    several.append(several)
    keyed = {"a": several}
    keyed["b"] = keyed
    assert text_of(several) == str(several) and text_of(keyed) == str(keyed)


def test_it_is_cut_and_says_how_much_there_is():
    assert text_of("x" * 100, 10) == "xxxxxxxxxx… (90 more)"
    assert text_of(list(range(1000)), 10) == "[0, 1, 2, … (1000 elements in all)"
    assert text_of({"a": "x" * 1000}, 10) == "{'a': 'xxx… (1 elements in all)"


def test_of_large_data_no_more_is_looked_at_than_is_shown():
    class Counted:
        seen = 0

        def __repr__(self):
            Counted.seen += 1
            return "c"

    text_of([Counted()] * 1_000_000)
    assert 0 < Counted.seen < 50_000


def test_data_nested_deeper_than_python_counts_is_shown():
    deep = []
    for _ in range(5000):
        deep = [deep]
    assert text_of(deep) == "[" * 5001 + "]" * 5001


def test_a_value_that_cannot_be_shown_does_not_fail_its_task():
    assert text_of([Refuses()]) == "[<Refuses that cannot be shown: RuntimeError>]"
    assert text_of(Refuses()) == "<Refuses that cannot be shown: RuntimeError>"


class Leaves:
    def __repr__(self):
        sys.exit(3)


class Unmeasured(str):
    def __len__(self):
        raise RuntimeError("not now")


class Namer(type):
    __name__ = property(lambda self: 1 / 0)


class Unnamed(metaclass=Namer):
    def __repr__(self):
        raise RuntimeError("not now")


def test_whatever_a_class_makes_of_being_shown_does_not_fail_its_task():
    assert text_of([Leaves()]) == "[<Leaves that cannot be shown: SystemExit>]"
    assert text_of(Unmeasured("text")) == "text" and text_of([Unmeasured("text")]) == "['text']"
    assert text_of(Unnamed()) == "<a value that cannot be shown: ZeroDivisionError>"


def test_the_timeout_of_a_task_is_not_taken_for_a_fault_of_the_value():
    class Slow:
        def __repr__(self):
            raise AirflowTaskTimeout("the task ran longer")

    with pytest.raises(AirflowTaskTimeout):
        text_of([Slow()])


@pytest.mark.parametrize("value, change", [
    ({}, lambda value, n: value.__setitem__(n, n)), (set(), lambda value, n: value.add(n)),
    ([], lambda value, n: value.append(n)),
])
def test_a_collection_that_changes_while_it_is_shown_is_shown(value, change):
    class Changes:
        def __repr__(self):
            change(value, len(value))  # as a thread does in between
            return "c"

    change(value, Changes())
    change(value, 1)
    assert "c" in text_of(value)


def test_a_dict_that_another_thread_never_stops_changing_is_shown():
    value, stop = {n: str(n) for n in range(2000)}, threading.Event()

    def goes_on():
        n = 0
        while not stop.is_set():
            n += 1
            value["new %d" % n] = n
            value.pop("new %d" % (n - 1), None)

    thread, before = threading.Thread(target=goes_on), sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    thread.start()
    try:
        assert all(text_of(value).startswith("{0: '0', 1: '1'") for _ in range(20))
    finally:
        stop.set()
        thread.join()
        sys.setswitchinterval(before)


def test_a_dict_that_changes_while_it_is_stored_is_stored_as_it_was():
    class Changes(tuple):
        _fields = ("a",)
        a = property(lambda self: value.__setitem__(len(value), 1))

    value = {0: Changes(), 1: 2}
    assert len(decode(encode(value))) == 2 and len(value) == 3


class Mute(BaseException):
    def __str__(self):
        raise KeyboardInterrupt


class Wordless(AirflowSkipException):
    def __str__(self):
        raise RuntimeError("not now")


@pytest.mark.parametrize("fault, kind, reason", [
    (Wordless(), "TaskState", "<Wordless that cannot be shown: RuntimeError>"),
    (Mute(), "RetryTask", "Mute: <its message cannot be written>"),
    (SystemExit(Refuses()), "RetryTask", "the task called sys.exit(<Refuses that cannot be shown: RuntimeError>)"),
])
def test_an_ending_whose_words_cannot_be_made_is_told_all_the_same(fault, kind, reason):
    terminal = end(fail(fault)).terminal
    assert (terminal["type"], terminal["reason"]) == (kind, reason)


def test_a_number_that_json_cannot_hold_is_the_tasks_failure_and_its_callbacks_hear_of_it():
    heard = []
    comms = end(lambda: 10**5000, on_failure_callback=heard.append)
    assert comms.terminal["reason"].startswith("XComSerializationError: cannot store what task 't' returned as JSON: Exceeds")
    assert comms.terminal["callbacks"] == ["on_failure_callback"] and len(heard) == 1 and comms.of("CallbacksDone")


def test_what_the_runtime_itself_fails_at_is_told_to_the_callbacks_too(monkeypatch):
    monkeypatch.setattr("ostro.runner.message", lambda fault: 1 / 0)
    heard = []
    comms = end(fail(ValueError("x")), on_failure_callback=heard.append)
    assert comms.terminal["reason"] == "in the runtime: ZeroDivisionError: division by zero"
    assert len(heard) == 1 and isinstance(heard[0]["exception"], ZeroDivisionError) and comms.of("CallbacksDone")
