"""One DAG for every source, put into globals(), as the Airflow FAQ shows."""

from warehouse.common.factory import make_dag

SOURCES = {"shop": (["orders", "customers"], "@daily"), "crm": (["leads"], "15 */6 * * *")}

for _name, (_tables, _schedule) in SOURCES.items():
    globals()["load_" + _name] = make_dag(_name, _tables, _schedule)
