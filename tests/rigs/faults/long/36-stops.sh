#!/usr/bin/env bash
# A thousand stops under load for each mechanism and policy, and a thousand over a slow and lossy link; half an hour.
set -euo pipefail
cd "$(dirname "$0")/../../../.."
exec timeout --kill-after=20 3600 "$CARGO_TARGET_DIR/release/cluster-faults" --library "$LIBDIR" --out "$BUILD/faults" \
    stops stops-link
