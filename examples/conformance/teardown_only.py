# rule: a run of nothing but setup and teardown ends by the teardown
from airflow.sdk import dag, setup, teardown


@dag(schedule=None)
def teardown_only():
    @setup
    def create():
        return 1

    @teardown
    def delete():
        raise ValueError("as planned")

    create() >> delete()


teardown_only()
