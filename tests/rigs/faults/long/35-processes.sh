#!/usr/bin/env bash
# Workers that end at once, workers that do not stop, and how many are woken by a connection; half a minute.
set -euo pipefail
cd "$(dirname "$0")/../../../.."
mkdir -p "$BUILD/faults"
program=$BUILD/faults/processes
"$CC" -std=c11 -Wall -Wextra -Werror -O1 -g -Iinclude -Itests/c tests/rigs/faults/processes.c -o "$program" -L"$LIBDIR" -lcluster \
    -Wl,-rpath,"$LIBDIR" -lpthread
status=0
CL_MECHANISM=passed timeout --kill-after=5 60 "$program" || status=1
for mechanism in passed kernel auto; do
    CL_MECHANISM=$mechanism MODES=shared JOBS=1 timeout --kill-after=5 60 tests/c/run.sh test_wakeups || status=1
done
exit $status
