#!/usr/bin/env bash
# Everything that looks into memory. The address, leak and undefined-behaviour sanitizers, with the library instrumented as well: all Rust
# tests, all C tests that link the library, and of those in header-only form the ones about the worker's side. The random calls
# under those, the thread sanitizer and valgrind. Of the C tests, of which all take valgrind a quarter of an hour (make valgrind), a few.
set -u
cd "$(dirname "$0")/../../.."
header_only="test_accept test_accept_limits test_close test_errors test_fork_child test_identity test_listen_kinds test_messages
    test_options test_protocol_worker test_scoreboard test_threads test_unix"
under_valgrind="test_close test_errors test_messages test_options"
note() { [ -z "${FAULTS_RESULTS:-}" ] || "$CARGO_TARGET_DIR/release/cluster-faults" note sanitizers "$@"; }

log=$(mktemp)
trap 'rm -f "$log"' EXIT
status=0
# A row of the results: what was run, and by what. Findings are whatever a suite counts as failed.
row() { # what contender command...
    local what=$1 contender=$2 cases findings code=0
    shift 2
    "$@" >"$log" 2>&1 || code=$?
    grep -E '^(ok|FAIL|test result|[0-9]+ passed)' "$log" | tail -n 200
    cases=$(awk '/^ok .* cases in / { for (i = 1; i < NF; i++) if ($(i + 1) == "cases") sum += $i }
        /^test result: / { sum += $4 } / ok   (primary|forks): / { sum += 1 } /^[0-9]+ passed, / && !/cases/ { last += $1 }
        END { print (sum > 0 ? sum : last + 0) }' "$log")
    findings=$(awk '/^FAIL/ { sum++ } /^test result: / { sum += $6 } END { print sum + 0 }' "$log")
    if [ $code -ne 0 ]; then
        status=1
        [ "$findings" -gt 0 ] || findings="ended with code $code"
        tail -n 60 "$log"
    fi
    note "$what ($cases cases): findings" "$contender" "$findings" 0 "$([ "$findings" = 0 ] && echo met || echo missed)"
}

target=$(rustc -vV | sed -n 's/^host: //p')
library=$CARGO_TARGET_DIR/asan/$target/debug
cargo_asan() { RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address CARGO_TARGET_DIR=$CARGO_TARGET_DIR/asan cargo "$@" --target "$target"; }
cargo_asan build -q --examples && cargo_asan build -q -p cluster-capi || exit 1
nm -D "$library/libcluster.so" | grep -q __asan_init || { echo 'the library is not instrumented'; exit 1; }

row "planted faults, all of which must be found" "ASan, LSan, UBSan" env LIBDIR="$library" tests/sanitizers/planted.sh asan
row "planted faults, all of which must be found" "TSan" tests/sanitizers/planted.sh tsan
row "planted faults, all of which must be found" "valgrind" tests/sanitizers/planted.sh valgrind
row "Rust tests" "ASan, LSan" cargo_asan test --lib --tests -- --test-threads=1
row "C tests, linked" "ASan, LSan, UBSan" env LIBDIR="$library" MODES=shared timeout 300 tests/c/run.sh asan
# shellcheck disable=SC2086 # A list of words.
row "C tests, header-only" "ASan, LSan, UBSan" env LIBDIR="$library" MODES=header timeout 200 tests/c/run.sh asan $header_only
row "random calls, 8 threads" "ASan, LSan, UBSan" env LIBDIR="$library" tests/torture/run.sh asan
row "random calls, 8 threads, header-only" "TSan" tests/torture/run.sh tsan
row "random calls, 8 threads" "valgrind" tests/torture/run.sh valgrind
# shellcheck disable=SC2086 # A list of words.
row "C tests, $(wc -w <<<"$under_valgrind") of them" "valgrind" timeout 200 tests/c/run.sh valgrind $under_valgrind
exit $status
