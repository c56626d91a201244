#!/usr/bin/env bash
# Compares the goldens of test/conformance with genuine Airflow, then Ostro with the goldens, then runs Airflow's own
# example DAGs on Ostro. The reports go to docs/measured/conformance.txt and docs/measured/airflow-examples.txt.
#
#   RENEW=1   write the goldens instead of comparing with them
#   ONLY=a,b  some DAG files; nothing is written to docs/measured
set -euo pipefail
cd "$(dirname "$0")/.."
export CGO_ENABLED=0
if ! ls /usr/lib/postgresql/*/bin/initdb > /dev/null 2>&1; then scripts/debian-packages postgresql; fi
postgres=$(dirname "$(ls -d /usr/lib/postgresql/*/bin/initdb | sort -V | tail -n 1)")
airflow=$(scripts/python-env airflow)
demo=$(scripts/python-env demo)
arguments=(--airflow "$airflow" --postgres "$postgres")
[ -z "${RENEW:-}" ] || arguments+=(--renew)
[ -z "${ONLY:-}" ] || arguments+=(--only "$ONLY")
report=$(mktemp)
trap 'rm -f "$report"' EXIT
{
  echo "date:    $(date -u '+%F %H:%M UTC'), commit $(git describe --always --dirty)"
  "$demo/bin/python" -B test/conformance/airflow_goldens.py "${arguments[@]}"
  go test -count=1 -v -run TestEveryDAGFile ./test/conformance/ -only "${ONLY:-}" | grep -E '^ *(---|ok|FAIL)' | sed -E 's/ \([0-9.]+s\)//'
} 2>&1 | tee "$report"
[ -z "${ONLY:-}" ] || exit 0
cp "$report" docs/measured/conformance.txt
"$demo/bin/python" -B test/conformance/airflow_examples.py --airflow "$airflow" --ostro bin/ostro --out docs/measured/airflow-examples.txt
