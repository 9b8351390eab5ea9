#!/usr/bin/env bash
# The whole errno sweep, and what runs out, in figures; four minutes at most.
set -euo pipefail
cd "$(dirname "$0")/../../../.."
timeout --kill-after=5 420 tests/rigs/errno/run.sh whole
