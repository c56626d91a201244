"""XCom values go to JSON and come back; what cannot is told with its path."""

import collections
import dataclasses
import datetime
import decimal
import enum
import json
import pathlib
import sys
import uuid

import attr
import numpy
import pandas
import pytest

from ostro import dates
from ostro.xcom import XComSerializationError, check_json, decode, encode, map_length


class Color(enum.Enum):
    RED = 1


class Text(str):
    pass


Point = collections.namedtuple("Point", "x y")


@dataclasses.dataclass
class Data:
    name: str
    when: datetime.date
    total: int = dataclasses.field(default=0, init=False)


@attr.s
class Attrs:
    x = attr.ib()
    _y = attr.ib(default=2)


class Model:
    """What pydantic's BaseModel looks like from outside."""

    def __init__(self, **fields):
        self.fields = fields

    def model_dump(self):
        return self.fields

    @classmethod
    def model_validate(cls, data):
        return cls(**data)

    def __eq__(self, other):
        return self.fields == other.fields


class Own:
    def __init__(self, x):
        self.x = x

    def serialize(self):
        return {"x": self.x}

    @staticmethod
    def deserialize(data, version):
        return Own(data["x"])

    def __eq__(self, other):
        return self.x == other.x


UTC = datetime.timezone.utc
VALUES = [
    None, True, 3, 2.5, "text", [1, [2]], {"a": {"b": 1}}, (1, (2, 3)), {1, 2}, frozenset("ab"), b"\x00\xff",
    bytearray(b"x"), {1: "a", (1, 2): "b"}, complex(1, 2), float("inf"), {"__classname__": "x"},
    datetime.datetime(2024, 1, 1, 12, 30, 0, 123456), datetime.datetime(2024, 1, 1, tzinfo=UTC),
    datetime.datetime(2024, 7, 1, tzinfo=dates.zone("Europe/Amsterdam")), datetime.date(2024, 2, 29),
    datetime.time(1, 2, 3), datetime.timedelta(days=1, microseconds=5), decimal.Decimal("1.10"),
    uuid.UUID("12345678123456781234567812345678"), pathlib.PurePosixPath("/a/b"), Color.RED, Point(1, (2,)),
    Data("n", datetime.date(2024, 1, 1)), Attrs(1, 3), Own(3), numpy.int64(3), numpy.float32(1.5), numpy.bool_(True),
    [Point(1, 2), {"d": decimal.Decimal(1)}],
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_values_come_back_equal_and_of_their_type(value):
    back = decode(json.loads(json.dumps(encode(value))))
    assert back == value
    assert type(back) is type(value) or isinstance(value, pathlib.PurePath)


def test_values_that_differ_in_type_only_stay_apart():
    assert json.dumps(encode((1, 2))) != json.dumps(encode([1, 2]))


def test_a_pendulum_date_comes_back_as_a_context_date():
    when = dates.shown("2024-01-01T00:00:00Z")
    assert encode(when)["__classname__"] == "pendulum.datetime.DateTime"
    assert str(decode(encode(when))) == "2024-01-01 00:00:00+00:00"


def test_models_travel_when_pydantic_is_loaded(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydantic", sys)
    assert decode(encode(Model(a=1, b=(2,)))) == Model(a=1, b=(2,))


def test_arrays_and_frames_travel():
    array = numpy.arange(6, dtype="float32").reshape(2, 3)
    back = decode(json.loads(json.dumps(encode(array))))
    assert (back == array).all() and back.dtype == array.dtype
    frame = pandas.DataFrame({"a": [1, 2], "b": ["x", "y"]})
    pandas.testing.assert_frame_equal(decode(json.loads(json.dumps(encode(frame)))), frame)


def test_frames_travel_as_csv_without_a_parquet_engine(monkeypatch):
    frame = pandas.DataFrame({"a": [1, 2], "b": ["x", "y"]})
    monkeypatch.setattr(pandas.DataFrame, "to_parquet", lambda *a, **k: (_ for _ in ()).throw(ImportError()))
    stored = encode(frame)
    assert stored["__data__"]["format"] == "csv"
    pandas.testing.assert_frame_equal(decode(stored), frame)


@pytest.mark.parametrize("value, words", [
    (object(), "cannot store what: it is a builtins.object"),
    ({"a": [1, {"b": lambda: 1}]}, r"the element \['a'\]\[1\]\['b'\] is a builtins.function"),
    ([open], "builtins.builtin_function_or_method"),
    ((n for n in [1]), "a generator, which can be read only once"),
    (sys.stderr, "an open file or connection cannot travel"),
])
def test_what_cannot_be_stored_is_told_with_its_path_and_what_to_do(value, words):
    with pytest.raises(XComSerializationError, match=words) as told:
        encode(value, "what")
    assert "save it to a file and return the path" in str(told.value)


def test_what_contains_itself_is_told():
    loop = []
    loop.append({"a": loop})
    with pytest.raises(XComSerializationError, match="contains itself"):
        encode(loop)


def test_stored_data_never_calls_what_is_not_a_value_class():
    evil = {"__classname__": "subprocess.Popen", "__version__": 1, "__data__": {"args": ["touch", "/tmp/evil"]}}
    assert decode(evil) == {"__classname__": "subprocess.Popen", "__version__": 1, "__data__": {"args": ["touch", "/tmp/evil"]}}


def test_a_class_that_is_gone_gives_its_data():
    assert decode({"__classname__": "gone.module.Thing", "__version__": 1, "__data__": {"fields": {"a": 1}}}) == {
        "__classname__": "gone.module.Thing", "__version__": 1, "__data__": {"fields": {"a": 1}}}


def test_lengths_are_those_one_can_map_over():
    assert [map_length(value) for value in ([1, 2], {"a": 1}, (1,), "text", 3, None)] == [2, 1, 1, -1, -1, -1]


def test_conf_must_be_plain_json():
    assert check_json({"a": 1}) == "" and "not JSON serializable" in check_json({"a": {1, 2}})


def test_what_is_nested_too_deeply_is_refused_in_words_and_shows_where():
    deep = []
    for _ in range(5000):
        deep = [deep]
    with pytest.raises(XComSerializationError) as found:
        encode(deep, "what task 't' returned")
    assert str(found.value).startswith("cannot store what task 't' returned: the element [0][0][0]")
    assert "nested more than 100 deep, which is too deep to be stored" in str(found.value) and len(str(found.value)) < 400


def test_large_plain_data_is_taken_as_it_is_and_copied():
    numbers, table = [1, 2.5, None, "x", True] * 10, {"a": 1, "b": 2.5}
    stored = encode([numbers, table])
    numbers.append(3)
    table["c"] = 3
    assert stored == [[1, 2.5, None, "x", True] * 10, {"a": 1, "b": 2.5}]


@pytest.mark.parametrize("value", [[1, float("nan")], {"a": float("inf")}, {1: 2}, [1, (2,)], [{"__classname__": "x"}],
                                   ["a", Text("b")], {Text("a"): 1}])
def test_what_is_only_nearly_plain_keeps_its_type(value):
    assert repr(decode(json.loads(json.dumps(encode(value))))) == repr(value)
