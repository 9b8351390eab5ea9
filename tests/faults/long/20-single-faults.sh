#!/usr/bin/env bash
# One fault at a time, and one worker that stands still.
set -euo pipefail
cd "$(dirname "$0")/../../.."
exec timeout --kill-after=20 600 "$CARGO_TARGET_DIR/release/cluster-faults" --library "$LIBDIR" --out "$BUILD/faults" single stuck
