#!/usr/bin/env bash
# One fault at a time; what a worker has in hand, what waits, other numbers of workers, a primary that is killed.
set -euo pipefail
cd "$(dirname "$0")/../../../.."
exec timeout --kill-after=20 600 "$CARGO_TARGET_DIR/release/cluster-faults" --library "$LIBDIR" --out "$BUILD/faults" \
    single hand queue resize orphans
