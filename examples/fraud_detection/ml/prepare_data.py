"""Prepare the features: read the raw data, assign leak-free folds, write one Parquet file to object storage.

The data is River's Phishing set: 1 250 real web sites, nine features, of which only 625 combinations are distinct. Rows
with equal features must land in the same fold, or the evaluation would test on what it has trained on.
"""

import argparse

import pandas as pd
from river.datasets import Phishing
from sklearn.model_selection import StratifiedGroupKFold

FOLDS = 5


def load_raw() -> pd.DataFrame:
    """One row a web site: nine features in [0, 1] and is_fraud."""
    frame = pd.DataFrame([{**features, "is_fraud": int(label)} for features, label in Phishing()])
    return frame


def assign_folds(frame: pd.DataFrame) -> pd.DataFrame:
    """Add the columns "entity" (equal features, equal entity) and "fold" (0 to FOLDS - 1, whole entities each)."""
    features = [c for c in frame if c != "is_fraud"]
    frame = frame.assign(entity=frame.groupby(features, sort=True).ngroup(), fold=-1)
    splitter = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0)
    for fold, (_, test) in enumerate(splitter.split(frame, frame["is_fraud"], frame["entity"])):
        frame.iloc[test, frame.columns.get_loc("fold")] = fold
    return frame


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--date", required=True, help="the day the features are for, YYYY-MM-DD")
    parser.add_argument("--output", required=True, help="where to write, an s3:// folder")
    args = parser.parse_args()

    frame = assign_folds(load_raw())
    frame["feature_date"] = args.date
    path = args.output.rstrip("/") + "/features.parquet"
    frame.to_parquet(path, index=False)
    print(f"{len(frame)} rows, {frame['entity'].nunique()} distinct, {frame['is_fraud'].mean():.1%} fraud")
    print(f"written to {path}")


if __name__ == "__main__":
    main()
