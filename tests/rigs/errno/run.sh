#!/usr/bin/env bash
# System calls that fail: each call of the library once in each place where it is made (sweep.c), and descriptors and memory that
# run out (limits.c). `tests/rigs/errno/run.sh whole` runs the whole matrix, and takes some minutes.
# LIBDIR: where the library is; BUILD: where to build. The sweep needs strace(1) and the right to trace one's own children.
set -uo pipefail
cd "$(dirname "$0")/../../.."

lib=$(realpath -m "${LIBDIR:-target/release}")
out=$(realpath -m "${BUILD:-target/c}")/errno
extent=${1:-quick}
cc=${CC:-cc}
passed=0
failed=0
skipped=0
mkdir -p "$out"
export LD_LIBRARY_PATH=$lib
[ -e "$lib/libcluster.so.0" ] || ln -sf libcluster.so "$lib/libcluster.so.0"

build() { # program flags...
    local program=$1 source=$2
    shift 2
    "$cc" -std=gnu17 -D_GNU_SOURCE -Wall -Wextra -Werror -g -O1 -Iinclude "tests/rigs/errno/$source.c" -o "$out/$program" "$@" || exit 1
}

# One line for each, and how it ended: 77 is "skipped".
run() {
    local start=$EPOCHREALTIME text code=0
    text=$(timeout --kill-after=5 240 "$@" 2>&1) || code=$?
    printf '%s (%.1f s)\n' "$text" "$(awk "BEGIN { print $EPOCHREALTIME - $start }")"
    case $code in
    0) passed=$((passed + 1)) ;;
    77) skipped=$((skipped + 1)) ;;
    *) failed=$((failed + 1)) ;;
    esac
}

build subject subject -L"$lib" -lcluster
build subject-header subject -DCL_HEADER_ONLY -ldl
build sweep sweep -DCL_HEADER_ONLY -ldl
build limits limits -DCL_HEADER_ONLY -ldl
build close_once.so close_once -shared -fPIC
export CLOSE_ONCE=$out/close_once.so

traced=1
if ! strace -qq -o /dev/null true 2>/dev/null; then
    echo 'skip: no strace(1) here, or tracing is not allowed: calls are not made to fail'
    skipped=$((skipped + 1))
    traced=0
fi
for way in passed kernel none rotation; do
    run "$out/limits" "$out/subject" $way "$extent" $traced
done
if [ $traced = 1 ]; then
    for way in passed kernel none rotation; do
        run "$out/sweep" "$out/subject" fork $way "$extent"
    done
    # A worker that is started anew, and the worker's side in the header alone.
    for way in passed kernel rotation; do
        run "$out/sweep" "$out/subject-header" spawn $way quick
    done
fi
if [ "$extent" = whole ]; then
    # What is closed twice anywhere is found by the C tests that close the most.
    for name in accept close listen_kinds spawn respawn disconnect unix kill stuck messages; do
        MODES=shared JOBS=1 BUILD=$out/.. LIBDIR=$lib tests/c/run.sh "test_$name" >/dev/null 2>&1
        run env LD_PRELOAD="$CLOSE_ONCE" "$out/../run/shared/test_$name"
    done
fi
echo "$passed passed, $failed failed, $skipped skipped"
[ $failed -eq 0 ]
