#!/usr/bin/env bash
# Measures Ostro beside Airflow, in one run, and writes the report to docs/measured/bench.txt.
#
#   ROUNDS=5      counted runs of each case and system
#   CASES=…       some of fibo10,fibo33,fibo10_heavy (Airflow takes minutes for a round of the last)
#   IDLE=75       seconds of quiet before memory is read (longer than a host may idle)
#   NO_AIRFLOW=1  measure Ostro alone; nothing is written to docs/measured
set -euo pipefail
cd "$(dirname "$0")/.."
arguments=(--ostro "$PWD/bin/ostro" --python "$PWD/.venvs/demo/bin/python" --rounds "${ROUNDS:-5}" --idle "${IDLE:-75}")
[ -z "${CASES:-}" ] || arguments+=(--cases "$CASES")
if [ -z "${NO_AIRFLOW:-}" ]; then
  if ! ls /usr/lib/postgresql/*/bin/initdb > /dev/null 2>&1; then
    if [ "$(id -u)" != 0 ]; then echo "the benchmark needs PostgreSQL's server programs: apt-get install postgresql" >&2; exit 2; fi
    apt-get update -qq && apt-get install -y -qq postgresql > /dev/null
  fi
  postgres=$(dirname "$(ls -d /usr/lib/postgresql/*/bin/initdb | sort -V | tail -n 1)")
  airflow=$(scripts/python-env airflow)
  mkdir -p docs/measured
  arguments+=(--airflow "$airflow" --postgres "$postgres" --out docs/measured/bench.txt)
fi
exec .venvs/demo/bin/python -B bench/bench.py "${arguments[@]}"
