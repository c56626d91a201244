"""Print a tracking run's test_f1, and of the model version in Staging its number, its stage and its run: F1,V,S,R."""

import logging
import sys

logging.disable(logging.WARNING)

import mlflow  # noqa: E402

client = mlflow.MlflowClient()
f1 = client.get_run(sys.argv[1]).data.metrics["test_f1"]
staged = [v for v in client.search_model_versions() if v.current_stage == "Staging"]
version = (staged[0].version, staged[0].current_stage, staged[0].run_id) if staged else ("", "", "")
print(f"{f1:.4f}", *version, sep=",")
