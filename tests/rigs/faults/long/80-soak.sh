#!/usr/bin/env bash
# A million connections and ten thousand replacements of workers, for each mechanism.
set -u
cd "$(dirname "$0")/../../../.."
note() { [ -z "${FAULTS_RESULTS:-}" ] || "$CARGO_TARGET_DIR/release/cluster-faults" note soak "$@"; }

log=$(mktemp)
trap 'rm -f "$log"' EXIT
CONNECTIONS=1000000 REPLACEMENTS=10000 timeout 400 tests/rigs/soak/run.sh | tee "$log"
status=${PIPESTATUS[0]}
while IFS='|' read -r mechanism what measured goal verdict; do
    [ -z "${verdict:-}" ] || note "$what" "libcluster $mechanism" "$measured" "$goal" "$verdict"
done <"$log"
exit "$status"
