"""An operator of the team's own, SQL from files found by template_searchpath, a script that is a template."""

import os
from datetime import datetime

from airflow.decorators import dag
from airflow.models.baseoperator import BaseOperator, chain
from airflow.operators.bash import BashOperator
from airflow.utils.decorators import apply_defaults

HERE = os.path.dirname(os.path.abspath(__file__))
RAN = []


class SqlReport(BaseOperator):
    template_fields = ("sql", "target")
    template_ext = (".sql",)
    template_fields_renderers = {"sql": "sql"}
    ui_color = "#abcdef"

    @apply_defaults
    def __init__(self, sql, target, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.sql, self.target = sql, target

    def execute(self, context):
        RAN.append((self.task_id, self.sql, self.target))
        return self.target


@dag(
    schedule_interval=None,
    start_date=datetime(2023, 1, 1),
    template_searchpath=os.path.join(HERE, "sql"),
    params={"regions": ["eu", "us"]},
    default_args={"owner": "bi"},
)
def reports():
    daily = SqlReport(task_id="daily", sql="daily.sql", target="s3://reports/{{ ts_nodash }}")
    inline = SqlReport(task_id="inline", sql="SELECT '{{ next_ds }}', '{{ prev_ds }}' ", target="{{ run_id }}")
    script = BashOperator(task_id="script", bash_command="scripts/vacuum.sh", env={"TABLES": "a"}, append_env=True)
    absent = BashOperator(task_id="absent", bash_command="/opt/jobs/run.sh")
    chain(daily, inline, [script, absent])


reports()
