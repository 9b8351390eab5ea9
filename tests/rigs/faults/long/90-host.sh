#!/usr/bin/env bash
# Four styles of host with a thousand workers each, and the rest of tests/rigs/host as many times over.
set -u
cd "$(dirname "$0")/../../../.."
note() { [ -z "${FAULTS_RESULTS:-}" ] || "$CARGO_TARGET_DIR/release/cluster-faults" note host "$@"; }

HOST_FIGURES=$(mktemp)
trap 'rm -f "$HOST_FIGURES"' EXIT
export HOST_FIGURES HOST_TIMES=21 CHECK_SLOW=3
timeout 300 tests/rigs/host/run.sh
status=$?
while IFS='|' read -r what measured goal verdict; do note "$what" "libcluster C" "$measured" "$goal" "$verdict"; done <"$HOST_FIGURES"
exit $status
