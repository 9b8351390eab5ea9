#!/usr/bin/env bash
# Ten million random calls of the C interface from 8 threads a process, and 1,000 children of a plain fork(2) in the middle of them.
set -u
cd "$(dirname "$0")/../../../.."
note() { [ -z "${FAULTS_RESULTS:-}" ] || "$CARGO_TARGET_DIR/release/cluster-faults" note torture "$@"; }

log=$(mktemp)
trap 'rm -f "$log"' EXIT
status=0
# The workers of a primary add to what it is asked for, so the total is more than the sum.
MODES=shared CALLS=4000000 FORKS=1000 timeout 240 tests/rigs/torture/run.sh 2>&1 | tee -a "$log"
MODES=header CALLS=4000000 FORKS=1000 timeout 240 tests/rigs/torture/run.sh 2>&1 | tee -a "$log"
MODES=lone CALLS=2100000 timeout 240 tests/rigs/torture/run.sh 2>&1 | tee -a "$log"
[ "$(grep -c '^1 passed, 0 failed$' "$log")" = 3 ] || status=1

calls=$(awk '/ total [0-9]+ calls/ { sum += $3 } END { print sum + 0 }' "$log")
[ "$calls" -ge 10000000 ] || status=1
verdict=met
[ $status -eq 0 ] || verdict=missed
findings=$(grep -c '^FAIL' "$log")
note "findings in random calls from 8 threads ($calls)" "libcluster C" "$findings" 0 $verdict
note "findings in 2,000 children of fork(2) in the middle of work, each calling every function" "libcluster C" \
    "$(grep -c '^FAIL.* forks' "$log")" 0 $verdict
exit $status
