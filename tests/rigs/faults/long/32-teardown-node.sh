#!/usr/bin/env bash
# 1,000 worker_threads with an engine and a server, terminated in the middle of accepting: no signal, no descriptor left.
set -euo pipefail
cd "$(dirname "$0")/../../../.."

status=0
for mechanism in kernel passed rotation; do
    # A kernel that is not allowed here is a listening that fails.
    [ "$mechanism" != kernel ] || [ "$(CL_MECHANISM=kernel node tests/node/support/mechanism.cjs)" = kernel ] || continue
    timeout --kill-after=5 100 node tests/rigs/faults/node/teardown.cjs 500 "$mechanism" --result || status=1
done
exit $status
