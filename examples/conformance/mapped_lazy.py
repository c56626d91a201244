# rule: the results of a mapped task are read lazily: length, index, slice, iteration
from airflow.sdk import dag, task


@dag(schedule=None)
def mapped_lazy():
    @task
    def square(n):
        return n * n

    @task
    def read(values):
        return {"type": type(values).__name__, "len": len(values), "first": values[0], "last": values[-1],
                "slice": list(values[1:3]), "all": [value for value in values], "reversed": list(values[::-1])}

    @task
    def pulled(ti=None):
        every = ti.xcom_pull(task_ids="square")
        return {"all": list(every), "one": ti.xcom_pull(task_ids="square", map_indexes=2),
                "some": list(ti.xcom_pull(task_ids="square", map_indexes=[3, 0])),
                "type": type(every).__name__}

    squares = square.expand(n=[1, 2, 3, 4])
    read(squares)
    squares >> pulled()


mapped_lazy()
