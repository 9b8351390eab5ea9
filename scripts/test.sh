#!/usr/bin/env bash
# Runs every test: the Rust ones, then each run.sh of tests and tests/rigs, which finds the library in LIBDIR and the addon in node-addon, puts
# what it builds into BUILD and ends with the line "N passed, N failed". The npm packages that its lock file pins are installed
# before. All suites run, two at a time where there are two processors, because they mostly wait; what one says is shown when it has
# ended. One that fails fails the whole at the end.
#
# Connections reach the workers by what a cluster takes by itself, unless CL_MECHANISM names a mechanism. Tests of exact turns name one.
set -euo pipefail
cd "$(dirname "$0")/.."

export LIBDIR=${LIBDIR:-$PWD/target/release} BUILD=${BUILD:-$PWD/target/c}
mkdir -p "$BUILD"
passed=0
failed=""

ended() {
    if [ "$2" = 0 ]; then passed=$((passed + 1)); else failed="$failed $1"; fi
}

suite() {
    local name=$1 status=0
    shift
    printf '\n== %s\n' "$name"
    "$@" </dev/null || status=$?
    ended "$name" "$status"
}

# A suite that dies before its last line, or that ran nothing, has not passed.
counted() {
    local log status=0
    log=$BUILD/$(basename "$(dirname "$1")").log
    [ ! -f "$(dirname "$1")/package-lock.json" ] || scripts/node_modules.sh "$(dirname "$1")" || return 1
    "$@" 2>&1 | tee "$log" || status=1
    tail -n 1 "$log" | grep -Eq '^[1-9][0-9]* passed, 0 failed(, [0-9]+ skipped)?$' || status=1
    return $status
}

if cargo nextest --version >/dev/null 2>&1; then
    suite rust cargo nextest run --workspace
else
    # One of the tests runs the Rust example, which nextest builds and this selection of targets does not.
    cargo build --workspace --examples
    # One after another and on the main thread: a test may fork, and only a process with one thread may.
    suite rust cargo test --workspace --lib --bins --tests -- --test-threads=1
fi
suite rust-docs cargo test --workspace --exclude cluster-capi --doc

# The longest first, so that none of them is the last to end.
longest="tests/c/run.sh tests/node/run.sh tests/rigs/faults/run.sh"
shorter=""
for script in tests/*/run.sh tests/rigs/*/run.sh; do
    case " $longest " in *" $script "*) ;; *) shorter="$shorter $script" ;; esac
done
lanes=2
begun=""
[ "$(nproc)" -ge 2 ] || lanes=1
said=$(mktemp -d)
trap 'rm -rf "$said"' EXIT
show_ended() {
    local name
    for status in "$said"/*.status; do
        [ -e "$status" ] || continue
        name=$(basename "$status" .status)
        printf '\n== %s\n' "$name"
        cat "$said/$name.said"
        ended "$name" "$(cat "$status")"
        mv "$status" "$said/$name.ended"
    done
}
run_beside() {
    local name=$1 status=0
    shift
    "$@" </dev/null >"$said/$name.said" 2>&1 || status=$?
    echo "$status" >"$said/$name.part"
    mv "$said/$name.part" "$said/$name.status"
}
for script in $longest $shorter; do
    while [ "$(jobs -rp | wc -l)" -ge "$lanes" ]; do
        wait -n || true
        show_ended
    done
    name=$(basename "$(dirname "$script")")
    run_beside "$name" counted "$script" &
    begun="$begun $name"
done
wait
show_ended
# One that was killed has said nothing of its end.
for name in $begun; do
    [ -e "$said/$name.ended" ] || failed="$failed $name"
done

# The engine's own tests run with each mechanism in any case.
mechanism=$(env -u CL_MECHANISM node tests/node/support/mechanism.cjs) || failed="$failed mechanism"
if [ -n "${CL_MECHANISM:-}" ]; then
    printf '\nthe mechanism is %s, as CL_MECHANISM wants it, in all suites\n' "$CL_MECHANISM"
else
    printf '\nby itself a cluster took %s here\n' "${mechanism%% *}"
fi

printf '\n'
[ -z "$failed" ] || echo "failed:$failed"
echo "suites: $passed passed, $(wc -w <<<"$failed") failed"
[ -z "$failed" ]
