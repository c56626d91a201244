#!/usr/bin/env bash
# Runs the fraud-detection pipeline end to end on the embedded default: one binary, SQLite, processes.
#
#   make demo                 run it, show the result, keep the server up until Ctrl-C
#   make demo GATE=0.999      a gate no model passes: retries, the failure callback, upstream_failed
#   make demo DEMO_EXIT=1     stop the server at the end
#   DEMO_HOME, DEMO_PORT      where the state lives (demo-home) and the port (8080, or the next free one)
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
home=${DEMO_HOME:-$root/demo-home}
gate=${GATE:-}
ostro=$root/bin/ostro
python=$root/.venvs/demo/bin/python

bold=''; dim=''; plain=''
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then bold=$'\e[1m'; dim=$'\e[2m'; plain=$'\e[0m'; fi
step() { printf '\n%s▸ %s%s\n' "$bold" "$1" "$plain"; }

port_is_free() { ! (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
port=${DEMO_PORT:-8080}
if [ -z "${DEMO_PORT:-}" ]; then
  while ! port_is_free "$port"; do port=$((port + 1)); done
elif ! port_is_free "$port"; then
  echo "port $port is in use; choose another with DEMO_PORT=…" >&2; exit 2
fi

step "Setting up $home"
mkdir -p "$home/dags"
home=$(cd "$home" && pwd)
if [ -n "$gate" ] && ! [[ $gate =~ ^[01](\.[0-9]+)?$ ]]; then
  echo "GATE=$gate is not a number between 0 and 1" >&2; exit 2
fi
for file in examples/fraud_detection/dags/*.py; do
  sed "s/0\.90/${gate:-0.90}/g" "$file" > "$home/dags/$(basename "$file")"
done
[ -z "$gate" ] || echo "the gate in the demo's copy of the DAG file is $gate instead of 0.90"
cat > "$home/ostro.yaml" <<YAML
# Written by make demo.
python: $python
scheduler:
  # Only what the demo triggers: the weekly schedule would start a second training beside it.
  use_job_schedule: false
tasks:
  # The file says five minutes; nobody wants to watch that.
  retry_delay_override: 2s
  env:
    # A stock MLflow store in a file, with its artifacts in the laptop's S3.
    MLFLOW_TRACKING_URI: sqlite:///$home/mlflow.db
    FRAUD_ARTIFACTS: s3://bucket/mlflow
    GIT_PYTHON_REFRESH: quiet
    PYTHONWARNINGS: ignore::FutureWarning
# KubernetesPodOperator runs as a process here: an image is a folder and a Python.
pods: process
images:
  "ml-pipeline*":
    dir: $root/examples/fraud_detection/ml
    python: $python
YAML

step "Starting ostro standalone on port $port"
export OSTRO_HOME=$home OSTRO_PORT=$port
"$ostro" standalone --home "$home" --port "$port" > "$home/server.out" 2>&1 &
server=$!
stop_server() {
  if kill -0 "$server" 2>/dev/null; then kill -TERM "$server"; wait "$server" || true; fi
}
trap stop_server EXIT
for _ in $(seq 300); do
  if "$ostro" dags show fraud_detection_training -o json > /dev/null 2>&1 && "$ostro" dags show ml_pipeline -o json > /dev/null 2>&1; then ready=1; break; fi
  if ! kill -0 "$server" 2>/dev/null; then echo "the server ended:" >&2; tail -n 20 "$home/server.out" >&2; exit 1; fi
  sleep 0.1
done
if [ -z "${ready:-}" ]; then
  echo "the DAG files were not taken in within 30 s:" >&2; "$ostro" dags errors >&2 || true; tail -n 20 "$home/server.out" >&2; exit 1
fi
"$ostro" dags list

step "ml_pipeline (TaskFlow): trigger and wait"
"$ostro" dags unpause ml_pipeline > /dev/null
"$ostro" dags trigger ml_pipeline --wait

step "fraud_detection_training: prepare, train, gate, promote"
"$ostro" dags unpause fraud_detection_training > /dev/null
run=$("$ostro" dags trigger fraud_detection_training -o json | "$python" -c 'import json, sys; print(json.load(sys.stdin)["dag_run_id"])')
outcome=0
"$ostro" runs watch fraud_detection_training "$run" || outcome=$?

step "Result"
"$ostro" runs show fraud_detection_training "$run"
MLFLOW_TRACKING_URI=sqlite:///$home/mlflow.db "$python" scripts/demo_report.py "$run" "${gate:-0.90}"

if [ "$outcome" -ne 0 ]; then
  step "What happened, and what to do next"
  "$ostro" tasks logs fraud_detection_training quality_gate "$run" | tail -n 15
  cat <<TEXT

The quality gate refused the model, was retried as often as its author allowed, called notify_on_slack after the last
try, and promote_to_staging did not run: its state is upstream_failed. From here you would
  look at the log          $ostro tasks logs fraud_detection_training quality_gate $run
  improve the training, in examples/fraud_detection/ml/train.py (as it is, it reaches the same F1 again)
  run it from there again  $ostro tasks clear fraud_detection_training $run --task train_model --downstream --yes
or accept the model as it is: make demo, whose gate is the document's 0.90.
TEXT
fi

step "Where things are"
[ -z "${DEMO_EXIT:-}" ] || echo "  The server stops now; start it again with: $ostro standalone --home $home --port $port"
cat <<TEXT
  UI and API   http://127.0.0.1:$port   ${dim}(token in $home/token)${plain}
  state        $home   ${dim}(control.db, logs/, s3/, mlflow.db)${plain}
  DAG files    $home/dags
  try          export OSTRO_HOME=$home
               $ostro runs list fraud_detection_training
               $ostro tasks logs fraud_detection_training train_model $run
TEXT

if [ -n "$gate" ] && [ "$outcome" -ne 0 ]; then expected=1; else expected=$((outcome == 0)); fi
if [ -n "${DEMO_EXIT:-}" ]; then
  stop_server; tail -n 3 "$home/server.out"; trap - EXIT
  [ "$expected" = 1 ]; exit
fi
printf '\n%sThe server goes on running; Ctrl-C stops it.%s\n' "$bold" "$plain"
trap 'stop_server; exit 0' INT TERM
wait "$server"
