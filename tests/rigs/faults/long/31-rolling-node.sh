#!/usr/bin/env bash
# Rolling replacements in Node under HTTP load: 200 of them with 100,000 requests, on kept connections and on new ones, and 50
# with 200 clients that keep their connections. No request may fail. Stock node:cluster beside it, under which some do.
set -euo pipefail
cd "$(dirname "$0")/../../../.."

status=0
# roll CONTENDER REPLACEMENTS REQUESTS KEPT FRESH PAUSE
roll() { timeout --kill-after=5 150 node tests/rigs/faults/node/rolling.cjs "$@" || status=1; }

roll kernel 200 100000 16 16 12
roll passed 50 25000 16 16 12
roll stock 50 25000 16 16 12
roll kernel 50 0 200 0 100
roll passed 20 0 200 0 100
roll stock 20 0 200 0 100
exit $status
