# rule: several mapped arguments make the product, the last varying fastest
from airflow.sdk import dag, task


@dag(schedule=None)
def mapped_product():
    @task
    def sizes():
        return [1, 2, 3]

    @task
    def join(a, b, c):
        return "%s%s%s" % (a, b, c)

    join.expand(a=["x", "y"], c=["!", "?"], b=sizes())


mapped_product()
