"""Print what the demo's run left in the tracking store: F1 against the gate, and the promoted version.

usage: demo_report.py GATE   (MLFLOW_TRACKING_URI names the store)
"""

import logging
import sys

logging.disable(logging.WARNING)

import mlflow  # noqa: E402

MODEL = "fraud-detection"


def main():
    gate = float(sys.argv[1])
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("fraud-detection")
    runs = experiment and client.search_runs([experiment.experiment_id], order_by=["attributes.start_time DESC"], max_results=1)
    if not runs:
        print("no tracking run: training did not get that far")
        return
    run = runs[0]
    f1 = run.data.metrics.get("test_f1")
    if f1 is None:
        print(f"tracking run {run.info.run_id} has no test_f1")
        return
    verdict = "passed" if f1 >= gate else "refused"
    print(f"F1 {f1:.4f} against the gate's {gate:g}: {verdict}   (tracking run {run.info.run_name}, {run.info.run_id})")
    staged = [v for v in client.search_model_versions(f"name = '{MODEL}'") if v.current_stage == "Staging"]
    ours = [v for v in staged if v.run_id == run.info.run_id]
    if ours:
        print(f"promoted: {MODEL} version {ours[0].version} is in Staging")
    elif staged:
        print(f"promoted: nothing; version {staged[0].version} of an earlier run is still in Staging")
    else:
        print("promoted: nothing")


if __name__ == "__main__":
    main()
