#!/usr/bin/env bash
# Rolling replacements of workers in C.
set -euo pipefail
cd "$(dirname "$0")/../../../.."
exec timeout --kill-after=20 300 "$CARGO_TARGET_DIR/release/cluster-faults" --library "$LIBDIR" --out "$BUILD/faults" rolling
