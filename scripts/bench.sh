#!/usr/bin/env bash
# Measures Ostro beside Airflow, in one run, and writes the report to docs/measured/bench.txt.
#
#   SUITE=engine  measure instead what the engine takes where there are many (tasks, runs, waits, DAGs), on SQLite and
#                 PostgreSQL, and write that to docs/measured/engine.txt
#   ROUNDS=5      counted runs of each case and system
#   CASES=…       some of the suite's: fibo10,fibo33,fibo10_heavy (Airflow takes minutes for a round of the last)
#   IDLE=75       seconds of quiet before memory is read (longer than a host may idle)
#   NO_AIRFLOW=1  measure Ostro alone; nothing is written to docs/measured
set -euo pipefail
cd "$(dirname "$0")/.."
postgresql() { # installs it where it is missing, and prints the folder of its server programs
  if ! ls /usr/lib/postgresql/*/bin/initdb > /dev/null 2>&1; then
    if [ "$(id -u)" != 0 ]; then echo "the benchmark needs PostgreSQL's server programs: apt-get install postgresql" >&2; exit 2; fi
    { apt-get update -qq && apt-get install -y -qq postgresql; } > /dev/null
  fi
  dirname "$(ls -d /usr/lib/postgresql/*/bin/initdb | sort -V | tail -n 1)"
}
mkdir -p docs/measured
arguments=(--ostro "$PWD/bin/ostro" --python "$PWD/.venvs/demo/bin/python")
[ -z "${CASES:-}" ] || arguments+=(--cases "$CASES")
if [ "${SUITE:-}" = engine ]; then
  go build -o bin/load ./bench/load
  arguments+=(--load "$PWD/bin/load" --postgres "$(postgresql)" --rounds "${ROUNDS:-3}" --out docs/measured/engine.txt)
  exec .venvs/demo/bin/python -B bench/engine.py "${arguments[@]}"
fi
arguments+=(--rounds "${ROUNDS:-5}" --idle "${IDLE:-75}")
if [ -z "${NO_AIRFLOW:-}" ]; then
  arguments+=(--airflow "$(scripts/python-env airflow)" --postgres "$(postgresql)" --out docs/measured/bench.txt)
fi
exec .venvs/demo/bin/python -B bench/bench.py "${arguments[@]}"
