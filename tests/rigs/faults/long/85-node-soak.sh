#!/usr/bin/env bash
# 200,000 connections in Node, half of them under each mechanism, and heap snapshots of the primary and its workers before and after: nothing may have piled up.
set -euo pipefail
cd "$(dirname "$0")/../../../.."

status=0
soak() { timeout --kill-after=5 240 node tests/rigs/faults/node/soak.cjs "$@" --result || status=1; }
kind=$(env -u CL_MECHANISM node tests/node/support/mechanism.cjs)
soak passed 100000
[ "$kind" = passed ] || soak "$kind" 100000
exit $status
