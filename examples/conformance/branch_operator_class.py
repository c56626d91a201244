# rule: a subclass of BaseBranchOperator chooses with choose_branch
from airflow.providers.standard.operators.branch import BaseBranchOperator
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG


class ByConf(BaseBranchOperator):
    def choose_branch(self, context):
        return context["dag_run"].conf["way"]


# run: {"conf": {"way": "left"}}
# run: {"conf": {"way": ["left", "right"]}}
with DAG("branch_operator_class", schedule=None):
    ByConf(task_id="choose") >> [EmptyOperator(task_id="left"), EmptyOperator(task_id="right")]
