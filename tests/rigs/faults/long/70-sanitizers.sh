#!/usr/bin/env bash
# Everything that looks into memory. The address, leak and undefined-behaviour sanitizers, with the library instrumented as well: all Rust
# tests, all C tests that link the library, and of those in header-only form the ones about the worker's side. The random calls
# under those, the thread sanitizer and valgrind; all C tests that link the library under valgrind, which takes it a quarter of an hour.
set -u
cd "$(dirname "$0")/../../../.."
header_only="test_accept test_accept_limits test_close test_errors test_fork_child test_identity test_listen_kinds test_messages
    test_options test_protocol_worker test_scoreboard test_threads test_unix"
note() { [ -z "${FAULTS_RESULTS:-}" ] || "$CARGO_TARGET_DIR/release/cluster-faults" note sanitizers "$@"; }

log=$(mktemp)
trap 'rm -f "$log"' EXIT
status=0
# A row of the results: what was run, and by what. Findings are the reports; a suite that fails without one is told as that.
row() { # what contender command...
    local what=$1 contender=$2 cases findings code=0
    shift 2
    "$@" >"$log" 2>&1 || code=$?
    grep -E '^(ok|FAIL|test result|again|[0-9]+ passed)' "$log"
    cases=$(awk '/^ok .* cases in / { for (i = 1; i < NF; i++) if ($(i + 1) == "cases") sum += $i }
        /^test result: / { sum += $4 } / ok   (primary|forks): / { sum += 1 } /^[0-9]+ passed, / { last += $1 }
        END { print (sum > 0 ? sum : last + 0) }' "$log")
    findings=$(grep -cE 'ERROR: [A-Za-z]+Sanitizer|runtime error: |WARNING: ThreadSanitizer|^==[0-9]+== (Invalid|Conditional|Use of|.* definitely lost)' "$log")
    if [ $code -ne 0 ]; then
        status=1
        [ "$findings" -gt 0 ] || findings="0, but it failed"
        tail -n 60 "$log"
    fi
    note "$what ($cases cases): findings" "$contender" "$findings" 0 "$([ "$findings" = 0 ] && echo met || echo missed)"
}

# The C tests. Some of them want exact turns, which a worker that gets no processor for long does not take: what failed without a report
# has to pass alone.
c_tests() { # sanitizer test...
    local text names
    # Figures of theirs belong to other parts.
    text=$(env -u FAULTS_RESULTS tests/c/run.sh "$@" 2>&1) && { printf '%s\n' "$text"; return 0; }
    printf '%s\n' "$text"
    names=$(sed -n 's/^  failed: [a-z]* \(test_.*\)/\1/p' <<<"$text" | tr '\n' ' ')
    [ -n "$names" ] && ! grep -qE 'ERROR: [A-Za-z]+Sanitizer|runtime error: |^==[0-9]+== ' <<<"$text" || return 1
    echo "again, alone: $names"
    # shellcheck disable=SC2086 # A list of words.
    JOBS=1 env -u FAULTS_RESULTS tests/c/run.sh "$1" $names
}

target=$(rustc -vV | sed -n 's/^host: //p')
library=$CARGO_TARGET_DIR/asan/$target/debug
# The target named, so that build scripts are spared.
cargo_asan() {
    RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address CARGO_TARGET_DIR=$CARGO_TARGET_DIR/asan cargo "$1" --target "$target" "${@:2}"
}
cargo_asan build -q --examples && cargo_asan build -q -p cluster-capi || exit 1
nm -D "$library/libcluster.so" | grep -q __asan_init || { echo 'the library is not instrumented'; exit 1; }

row "planted faults, overlooked ones" "ASan, LSan, UBSan" env LIBDIR="$library" tests/rigs/sanitizers/planted.sh asan
row "planted faults, overlooked ones" "TSan" tests/rigs/sanitizers/planted.sh tsan
row "planted faults, overlooked ones" "valgrind" tests/rigs/sanitizers/planted.sh valgrind
row "Rust tests" "ASan, LSan" cargo_asan test --lib --tests -- --test-threads=1
release=$LIBDIR
export LIBDIR=$library
MODES=shared row "C tests, linked" "ASan, LSan, UBSan" c_tests asan
# shellcheck disable=SC2086 # A list of words.
MODES=header row "C tests, header-only" "ASan, LSan, UBSan" c_tests asan $header_only
row "random calls, 8 threads" "ASan, LSan, UBSan" tests/rigs/torture/run.sh asan
export LIBDIR=$release
row "random calls, 8 threads, header-only" "TSan" tests/rigs/torture/run.sh tsan
row "random calls, 8 threads" "valgrind" tests/rigs/torture/run.sh valgrind
row "C tests, linked" "valgrind" c_tests valgrind
exit $status
