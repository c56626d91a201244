"""Register the model of a tracking run and move it to Staging."""

import argparse

import mlflow

MODEL = "fraud-detection"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run-id", required=True, help="the tracking run whose model is promoted")
    args = parser.parse_args()

    client = mlflow.MlflowClient()
    version = mlflow.register_model(f"runs:/{args.run_id}/model", MODEL)
    client.transition_model_version_stage(MODEL, version.version, "Staging", archive_existing_versions=True)
    client.set_registered_model_alias(MODEL, "staging", version.version)
    print(f"{MODEL} version {version.version} of tracking run {args.run_id} is in Staging")


if __name__ == "__main__":
    main()
