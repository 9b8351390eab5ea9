#!/usr/bin/env bash
# The long part of the fault tests: every executable tests/rigs/faults/long/NN-name.sh in order, then docs/reliability-figures.md anew.
#
#   scripts/faults.sh             all parts
#   scripts/faults.sh 10 80-soak  those parts, by number or name; nothing is written to docs then
#
# LIBDIR  where libcluster.so is (target/release)      BUILD  where programs and results go (target/c)
# CL_FAULTS_SEEDS  how many seeds the parts with chance in them go through (10)
#
# A part appends its results to the file that FAULTS_RESULTS names, see tests/rigs/faults/README.md, and ends with another status than 0
# when a promise is broken. All parts run, whatever becomes of one.
set -euo pipefail
cd "$(dirname "$0")/.."

export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target} CC=${CC:-cc}
export LIBDIR=${LIBDIR:-$CARGO_TARGET_DIR/release} BUILD=${BUILD:-$CARGO_TARGET_DIR/c}
export CL_FAULTS_SEEDS=${CL_FAULTS_SEEDS:-10}
mkdir -p "$BUILD/faults"
export FAULTS_RESULTS=$BUILD/faults/results.jsonl
: >"$FAULTS_RESULTS"
unset CL_WORKER_ID CL_WORKER_SLOT CL_CHANNEL_FD CL_MECHANISM

# Whether the part was asked for.
is_wanted() {
    local name=$1 word
    shift
    [ $# -gt 0 ] || return 0
    for word in "$@"; do
        [[ $name != "$word" && $name != "$word"-* ]] || return 0
    done
    return 1
}

passed=0
failed=""
for script in tests/rigs/faults/long/[0-9]*.sh; do
    [ -x "$script" ] || continue
    name=$(basename "$script" .sh)
    is_wanted "$name" "$@" || continue
    printf '\n== %s\n' "$name"
    begun=$SECONDS
    if "$script" </dev/null; then passed=$((passed + 1)); else failed="$failed $name"; fi
    echo "took $((SECONDS - begun)) s"
done

printf '\n'
if [ $# -eq 0 ]; then
    "$CARGO_TARGET_DIR/release/cluster-faults" --library "$LIBDIR" --out "$BUILD/faults" report "$FAULTS_RESULTS" ||
        failed="$failed report"
fi
[ -z "$failed" ] || echo "failed:$failed"
echo "parts: $passed passed, $(wc -w <<<"$failed") failed"
[ -z "$failed" ] && [ "$passed" -gt 0 ]
