#!/usr/bin/env bash
# Kills under load and everything at once, through all seeds; what waits, what a worker has in hand, other numbers of workers.
set -euo pipefail
cd "$(dirname "$0")/../../.."
exec timeout --kill-after=20 1500 "$CARGO_TARGET_DIR/release/cluster-faults" --library "$LIBDIR" --out "$BUILD/faults" \
    storm chaos hand queue resize orphans
