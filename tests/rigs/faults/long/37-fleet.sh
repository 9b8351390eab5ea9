#!/usr/bin/env bash
# The library replaces workers under load: a hundred reloads, reloads to workers that are no good, other numbers of workers, workers that
# have done enough, clients who keep their slot, a fleet at rest, and 200 random sequences of all that; in C and in Node, an hour.
set -euo pipefail
cd "$(dirname "$0")/../../../.."
exec timeout --kill-after=20 5400 "$CARGO_TARGET_DIR/release/cluster-faults" --library "$LIBDIR" --out "$BUILD/faults" \
    reloads refusals scales recycles slots rest sequences
