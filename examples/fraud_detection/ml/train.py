"""Train the fraud model and log it with the stock mlflow client.

Every row is predicted by a model that never saw a row with the same features (the folds come from prepare_data.py):
"f1" is the mean over the folds, "test_f1" the F1 score of all those out-of-fold predictions together. The model that is
logged is then fitted on all rows.
"""

import argparse
import os
import re
import time

import mlflow
import numpy as np
import pandas as pd
from mlflow.models import infer_signature
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.metrics import f1_score, precision_score, recall_score

EXPERIMENT = "fraud-detection"
PARAMS = {"n_estimators": 100, "learning_rate": 0.1, "max_depth": 3, "random_state": 0}
NOT_FEATURES = ["is_fraud", "entity", "fold", "feature_date"]


def out_of_fold(x: pd.DataFrame, y: pd.Series, folds: pd.Series) -> np.ndarray:
    """Predictions for every row by a model trained on the other folds; logs the score of each fold as it comes."""
    predicted = np.zeros(len(y), dtype=int)
    for fold in sorted(folds.unique()):
        test = folds == fold
        model = GradientBoostingClassifier(**PARAMS).fit(x[~test], y[~test])
        predicted[test] = model.predict(x[test])
        score = f1_score(y[test], predicted[test])
        mlflow.log_metric("fold_f1", score, step=int(fold))
        print(f"fold {fold}: F1 {score:.3f} on {int(test.sum())} rows", flush=True)
    return predicted


def use_experiment() -> None:
    """Make the experiment on first use, with its artifacts in object storage, and check it is the one the gate reads."""
    client = mlflow.MlflowClient()
    known = client.get_experiment_by_name(EXPERIMENT)
    if known is None:
        client.create_experiment(EXPERIMENT, artifact_location=os.environ.get("FRAUD_ARTIFACTS") or None)
    experiment = mlflow.set_experiment(EXPERIMENT)
    wanted = os.environ.get("FRAUD_EXPERIMENT_ID", "1")
    if experiment.experiment_id != wanted:
        raise SystemExit(
            f"experiment {EXPERIMENT!r} has id {experiment.experiment_id}, the quality gate reads {wanted}: "
            f"set FRAUD_EXPERIMENT_ID={experiment.experiment_id}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, help="the folder that prepare_data.py wrote, s3://…")
    parser.add_argument("--run-name", required=True)
    args = parser.parse_args()

    frame = pd.read_parquet(args.data.rstrip("/") + "/features.parquet")
    x, y = frame.drop(columns=NOT_FEATURES).astype(float), frame["is_fraud"]
    run_date = re.search(r"\d{4}-\d{2}-\d{2}", args.run_name)

    use_experiment()
    with mlflow.start_run(run_name=args.run_name, tags={"run_date": run_date.group() if run_date else ""}) as run:
        started = time.monotonic()
        mlflow.log_params({**PARAMS, "model": "GradientBoostingClassifier", "rows": len(frame), "data": args.data})
        predicted = out_of_fold(x, y, frame["fold"])
        per_fold = [f1_score(y[frame["fold"] == f], predicted[frame["fold"] == f]) for f in sorted(frame["fold"].unique())]
        metrics = {
            "f1": float(np.mean(per_fold)),
            "f1_std": float(np.std(per_fold)),
            "test_f1": float(f1_score(y, predicted)),
            "test_precision": float(precision_score(y, predicted)),
            "test_recall": float(recall_score(y, predicted)),
            "train_seconds": time.monotonic() - started,
        }
        mlflow.log_metrics(metrics)
        model = GradientBoostingClassifier(**PARAMS).fit(x, y)
        mlflow.sklearn.log_model(model, name="model", signature=infer_signature(x, model.predict(x).astype(float)),
                                 serialization_format="cloudpickle")
        print(f"F1 {metrics['f1']:.3f} ± {metrics['f1_std']:.3f}, out of fold {metrics['test_f1']:.3f}")
        print(f"tracking run {run.info.run_id}")


if __name__ == "__main__":
    main()
