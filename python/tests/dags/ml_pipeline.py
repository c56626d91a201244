from seed_names import promote_to_staging  # the document leaves it undefined

from airflow.decorators import dag, task
from datetime import datetime


@dag(schedule="0 2 * * 1", start_date=datetime(2024, 1, 1))
def ml_pipeline():

    @task
    def prepare_data(execution_date: str) -> str:
        # Подготовка данных
        return f"s3://bucket/features/{execution_date}/"

    @task
    def train_model(data_path: str) -> dict:
        # Запуск обучения (или триггер внешнего job)
        return {"run_id": "xxx", "f1": 0.924}

    @task
    def promote_if_good(metrics: dict) -> None:
        if metrics["f1"] >= 0.90:
            promote_to_staging(metrics["run_id"])

    data = prepare_data()
    metrics = train_model(data)
    promote_if_good(metrics)


ml_pipeline()
