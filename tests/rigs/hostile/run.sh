#!/bin/bash
# Workers that speak the raw protocol and break it, beside three honest ones under load. From the root of the repository:
#
#   tests/rigs/hostile/run.sh [test_name ...]
#
# BUILD LIBDIR CC JOBS as in tests/c/run.sh. For one program by hand: HOSTILE_VERBOSE=1 writes a line of figures for each attack (shown
# when it fails), HOSTILE_ONLY="name" leaves out the others, HOSTILE_MS says how long a flood lasts (200).
set -u
here=$(dirname "$0")
build=$(realpath -m "${BUILD:-target/c}")/hostile
libdir=$(realpath -m "${LIBDIR:-target/release}")
include=$(realpath "$here/../../../include")
mkdir -p "$build"
[ -e "$libdir/libcluster.so.0" ] || ln -sf libcluster.so "$libdir/libcluster.so.0"
unset CL_WORKER_ID CL_WORKER_SLOT CL_CHANNEL_FD CL_MECHANISM
export CHECK_SLOW=${CHECK_SLOW:-1}
# The mechanism kernel takes a privilege; its cases say that they are skipped without it.
[ $# -gt 0 ] || set -- $(cd "$here" && ls test_*.c | sed 's/\.c$//')

run_one() { # name
    local name=$1 program=$build/$1 text code start=$EPOCHREALTIME seconds
    if ! text=$(${CC:-cc} -std=c11 -Wall -Wextra -Wpedantic -Werror -g -O1 -I"$here/../../c" -I"$include" "$here/$name.c" -o "$program" \
        -lpthread -L"$libdir" -lcluster -Wl,-rpath,"$libdir" 2>&1); then
        printf 'FAIL %s: does not compile\n%s\n' "$name" "$text"
        return 1
    fi
    text=$(timeout --kill-after=5 100 "$program" 2>&1)
    code=$?
    seconds=$(awk "BEGIN { printf \"%.1f\", $EPOCHREALTIME - $start }")
    if [ $code -ne 0 ]; then
        printf 'FAIL %s (%s s, exit code %d)\n%s\n' "$name" "$seconds" $code "$text"
        return 1
    fi
    echo "ok   $name: $(grep -c '^  ok ' <<<"$text") cases in $seconds s$(grep -q '^  skip' <<<"$text" && echo ', kernel skipped')"
}

results=$(mktemp "$build/results.XXXXXX")
running=0
for name in "$@"; do
    if [ $running -ge "${JOBS:-2}" ]; then
        wait -n
        running=$((running - 1))
    fi
    (
        # One write a test, so that two that end together do not mix.
        text=$(run_one "$name")
        code=$?
        printf '%s\n' "$text"
        [ $code -eq 0 ] && echo passed >>"$results" || echo failed >>"$results"
    ) &
    running=$((running + 1))
done
wait
passed=$(grep -c passed "$results")
failed=$(grep -c failed "$results")
rm -f "$results"
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
