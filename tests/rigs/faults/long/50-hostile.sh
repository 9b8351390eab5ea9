#!/usr/bin/env bash
# Workers that break the protocol in all the ways of tests/rigs/hostile, each flood for a second; then what their siblings' clients
# notice of floods, beside workers that only compute or sleep. Four minutes.
set -euo pipefail
cd "$(dirname "$0")/../../../.."
mkdir -p "$BUILD/hostile"
status=0
HOSTILE_MS=1000 timeout --kill-after=20 200 tests/rigs/hostile/run.sh || status=1

program=$BUILD/hostile/measure
"$CC" -std=c11 -Wall -Wextra -Werror -O1 -g -Iinclude -Itests/c tests/rigs/hostile/measure.c -o "$program" -L"$LIBDIR" -lcluster \
    -Wl,-rpath,"$LIBDIR" -lpthread
for mechanism in none passed kernel rotation; do
    folder=$(mktemp -d)
    CHECK_DIR=$folder timeout --kill-after=5 120 "$program" "$mechanism" || [ $? -eq 77 ] || status=1
    rm -rf "$folder"
done
exit $status
