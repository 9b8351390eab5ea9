#!/usr/bin/env bash
# Kills under load, for longer than any back-off bears, and everything at once, through all seeds; one worker that stands still.
set -euo pipefail
cd "$(dirname "$0")/../../../.."
exec timeout --kill-after=20 1500 "$CARGO_TARGET_DIR/release/cluster-faults" --library "$LIBDIR" --out "$BUILD/faults" \
    storm comeback chaos stuck
