#!/usr/bin/env bash
# Runs the fraud-detection pipeline end to end on the embedded default: one binary, SQLite, processes.
#
#   make demo                 run it, show the result, keep the server up until Ctrl-C
#   make demo GATE=0.999      a gate no model passes: retries, the failure callback, upstream_failed
#   make demo DEMO_EXIT=1     stop the server at the end
#   DEMO_HOME                 where the state lives (demo-home)
#   OSTRO_PORT                the port; without it, or with 0: 8080 or the next free one (DEMO_PORT goes before it)
#
# It ends with 0 when the pipeline did what it should: promoted the model or, with GATE, was stopped by the gate alone.
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
refuse() { printf '%s\n' "$@" >&2; exit 2; }

if [ -n "$gate" ] && ! [[ $gate =~ ^(0(\.[0-9]+)?|1(\.0+)?)$ ]]; then
  refuse "GATE=$gate is not a number between 0 and 1, such as 0.95"
fi
asked=OSTRO_PORT
[ -z "${DEMO_PORT:-}" ] || asked=DEMO_PORT
wanted=${!asked:-}
[ "$asked=$wanted" != OSTRO_PORT=0 ] || wanted='' # as for ostro itself: a free one
if [ -n "$wanted" ] && { ! [[ $wanted =~ ^[1-9][0-9]{0,4}$ ]] || [ "$wanted" -gt 65535 ]; }; then
  refuse "$asked=$wanted is not a port, such as 8090"
fi

step "Setting up $home"
mkdir -p "$home/dags"
home=$(cd "$home" && pwd)
export OSTRO_HOME=$home
unset OSTRO_PORT # it has been read, and the commands below find the server of this home by themselves
if running=$("$ostro" version 2>/dev/null | grep -o 'http://[^ ]*'); then
  refuse "A server of $home is running at $running, perhaps of another make demo." \
    "Stop it (Ctrl-C in its terminal), or give this demo a home of its own: make demo DEMO_HOME=/tmp/another-demo"
fi
ostro_typed=$(printf %q "$ostro") home_typed=$(printf %q "$home") # as one types them
port_is_free() { ! (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
port=${wanted:-8080}
while ! port_is_free "$port"; do
  [ -z "$wanted" ] || refuse "Port $port is in use by another program: choose another $asked, or none to get a free one."
  echo "port $port is in use by another program, trying $((port + 1))"
  port=$((port + 1))
done
for file in examples/fraud_detection/dags/*.py; do
  sed "s/0\.90/${gate:-0.90}/g" "$file" > "$home/dags/$(basename "$file")"
done
[ -z "$gate" ] || echo "the gate in the demo's copy of the DAG files is $gate instead of 0.90"
cat > "$home/ostro.yaml" <<YAML
# Written by make demo.
python: "$python"
scheduler:
  # Only what the demo triggers: the weekly schedule would start a second training beside it.
  use_job_schedule: false
tasks:
  # The file says five minutes; nobody wants to watch that.
  retry_delay_override: 2s
  env:
    # A stock MLflow store in a file, with its artifacts in the laptop's S3.
    MLFLOW_TRACKING_URI: "sqlite:///$home/mlflow.db"
    FRAUD_ARTIFACTS: s3://bucket/mlflow
    GIT_PYTHON_REFRESH: quiet
    PYTHONWARNINGS: ignore::FutureWarning
# KubernetesPodOperator runs as a process here: an image is a folder and a Python.
pods: process
images:
  "ml-pipeline*":
    dir: "$root/examples/fraud_detection/ml"
    python: "$python"
YAML

step "Starting ostro standalone on port $port"
# In a session of its own, so that Ctrl-C reaches this script alone: two signals would be one too many for a clean stop.
setsid "$ostro" standalone --home "$home" --port "$port" > "$home/server.out" 2>&1 &
server=$!
stop_server() {
  if kill -0 "$server" 2>/dev/null; then kill -TERM "$server"; wait "$server" || true; fi
}
farewell() { # what the server said last
  stop_server
  tail -n 1 "$home/server.out"
}
trap stop_server EXIT
trap 'trap - INT TERM; printf "\n"; farewell; exit 130' INT TERM
for _ in $(seq 300); do
  if "$ostro" dags show fraud_detection_training -o json > /dev/null 2>&1 && "$ostro" dags show ml_pipeline -o json > /dev/null 2>&1; then ready=1; break; fi
  if ! kill -0 "$server" 2>/dev/null; then echo "the server ended:" >&2; tail -n 20 "$home/server.out" >&2; exit 1; fi
  sleep 0.1
done
if [ -z "${ready:-}" ]; then
  echo "the DAG files were not taken in within 30 s:" >&2; "$ostro" dags errors >&2 || true; tail -n 20 "$home/server.out" >&2; exit 1
fi
"$ostro" dags list
field() { "$python" -c 'import json, sys; print(eval(sys.argv[1], {"it": json.load(sys.stdin)}))' "$1"; }
# What an interrupted demo has left unfinished would train beside this one.
for left in $("$ostro" runs list --state queued,running -o json | field '" ".join(r["dag_id"] + "," + r["dag_run_id"] for r in it)'); do
  echo "cancelling the run an earlier demo left unfinished: ${left/,/ }"
  "$ostro" runs cancel "${left%%,*}" "${left#*,}" > /dev/null
done

step "ml_pipeline (TaskFlow): trigger and wait"
"$ostro" dags unpause ml_pipeline > /dev/null
"$ostro" dags trigger ml_pipeline --wait

step "fraud_detection_training: prepare, train, gate, promote"
"$ostro" dags unpause fraud_detection_training > /dev/null
run=$("$ostro" dags trigger fraud_detection_training -o json | field 'it["dag_run_id"]')
outcome=0
"$ostro" runs watch fraud_detection_training "$run" || outcome=$?

step "Result"
"$ostro" runs show fraud_detection_training "$run"
MLFLOW_TRACKING_URI=sqlite:///$home/mlflow.db "$python" scripts/demo_report.py "${gate:-0.90}"
failed=$("$ostro" runs show fraud_detection_training "$run" -o json | field '" ".join(t["task_id"] for t in it["task_instances"] if t["state"] == "failed")')

if [ "$failed" = quality_gate ]; then
  step "What happened"
  "$ostro" tasks logs fraud_detection_training quality_gate "$run" | tail -n 15
  cat <<TEXT

The quality gate refused the model, was retried as often as its author allowed, called notify_on_slack after the last
try, and promote_to_staging did not run: its state is upstream_failed.
TEXT
  step "What to do next"
  [ -z "${DEMO_EXIT:-}" ] || cat <<TEXT
  start the server again   $ostro_typed standalone --home $home_typed --port $port
TEXT
  cat <<TEXT
  say which home           export OSTRO_HOME=$home_typed
  look at the log          $ostro_typed tasks logs fraud_detection_training quality_gate $run
  improve the training, in examples/fraud_detection/ml/train.py (as it is, it reaches the same F1 again)
  run it from there again  $ostro_typed tasks clear fraud_detection_training $run --task train_model --downstream --yes
  watch it                 $ostro_typed runs watch fraud_detection_training $run
Or take the model as it is, with the document's gate of 0.90: make demo
TEXT
elif [ -n "$failed" ]; then
  step "What failed: $failed"
  for task in $failed; do "$ostro" tasks logs fraud_detection_training "$task" "$run" | tail -n 30; done
fi

step "Where things are"
cat <<TEXT
  page and API http://127.0.0.1:$port   ${dim}(token in $home/token)${plain}
  state        $home   ${dim}(control.db, logs/, s3/, mlflow.db)${plain}
  DAG files    $home/dags
  try          export OSTRO_HOME=$home_typed
               $ostro_typed runs list fraud_detection_training
               $ostro_typed tasks logs fraud_detection_training train_model $run
TEXT

good=1
if [ "$outcome" -eq 0 ] || { [ -n "$gate" ] && [ "$failed" = quality_gate ]; }; then good=0; fi
if [ -n "${DEMO_EXIT:-}" ]; then
  echo
  farewell
  echo "Start it again with: $ostro_typed standalone --home $home_typed --port $port"
  exit $good
fi
printf '\n%sThe server goes on running; Ctrl-C stops it.%s\n' "$bold" "$plain"
trap 'trap - INT TERM; printf "\n"; farewell; exit $good' INT TERM
wait "$server"
