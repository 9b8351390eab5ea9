#!/usr/bin/env bash
# Clients that keep their connections while workers are replaced: those that are idle go to other workers. In C here, and beside it workers
# that close what they have; in Node by 31-rolling-node.sh.
set -euo pipefail
cd "$(dirname "$0")/../../../.."
program=$BUILD/faults/kept
mkdir -p "$(dirname "$program")"
"${CC:-cc}" -std=c11 -D_GNU_SOURCE -Wall -Wextra -Werror -O1 -g -Iinclude -Itests/c tests/rigs/faults/kept.c -o "$program" -L"$LIBDIR" -lcluster \
    -Wl,-rpath,"$(realpath "$LIBDIR")" -lpthread

status=0
for mechanism in passed kernel rotation none; do
    code=0
    timeout --kill-after=5 120 "$program" $mechanism 9 || code=$?
    [ $code = 0 ] || [ $code = 77 ] || status=1
done
timeout --kill-after=5 120 "$program" passed 9 closing || status=1
exit $status
