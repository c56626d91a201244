# rule: what an XCom keeps of a value's type
import datetime
import decimal
import uuid

from airflow.sdk import dag, task


@dag(schedule=None)
def xcom_types():
    @task
    def values():
        return {"int": 1, "float": 1.5, "text": "zwölf", "none": None, "true": True, "list": [1, [2]], "big": 2**53,
                "tuple": (1, 2), "set": {1}, "bytes_len": 3, "decimal": decimal.Decimal("1.10"),
                "date": datetime.date(2024, 1, 2), "datetime": datetime.datetime(2024, 1, 2, tzinfo=datetime.timezone.utc),
                "delta": datetime.timedelta(minutes=1), "nested": {"a": {"b": (1,)}}}

    @task
    def seen(value):
        return {name: "%s %s" % (type(one).__name__, one) for name, one in value.items() if name not in ("datetime", "date")}

    @task
    def none():
        return None

    @task
    def not_serialisable():
        return object()

    @task
    def unique():
        return uuid.UUID(int=5)

    seen(values())
    none()
    not_serialisable()


xcom_types()
