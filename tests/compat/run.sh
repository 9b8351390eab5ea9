#!/usr/bin/env bash
# Workers that were compiled with the header of 0.1 (0.1/cluster.h), under a primary of today. From the root of the repository:
#
#   tests/compat/run.sh
#
# header: compiled with CL_HEADER_ONLY, nothing of today's is in it.
# linked: compiled with that header, and run with today's library, as after an upgrade of the library alone.
# The other way round there is nothing to run here: header-only C has no primary, and the library of then is not built in a test.
#
# LIBDIR: where the library is; BUILD: where to build.
set -euo pipefail
cd "$(dirname "$0")/../.."
. scripts/suite.sh

lib=$(realpath "${LIBDIR:-target/release}")
out=$(realpath -m "${BUILD:-target/c}")/compat
CC=${CC:-cc}
mkdir -p "$out"
export CHECK_RUN=$$.$EPOCHREALTIME CHECK_SLOW=${CHECK_SLOW:-1}
unset CL_WORKER_ID CL_WORKER_SLOT CL_CHANNEL_FD
[ -e "$lib/libcluster.so.0" ] || ln -sf libcluster.so "$lib/libcluster.so.0"
strict=(-std=c11 -O1 -g -Wall -Wextra -Werror -D_GNU_SOURCE)
link=("-L$lib" -lcluster "-Wl,-rpath,$lib")

build() {
    "$CC" "${strict[@]}" -DCL_HEADER_ONLY -Itests/compat/0.1 tests/compat/worker.c -o "$out/header" -lpthread -ldl &&
        "$CC" "${strict[@]}" -Itests/compat/0.1 tests/compat/worker.c -o "$out/linked" "${link[@]}" &&
        "$CC" "${strict[@]}" -Iinclude tests/compat/worker.c -o "$out/new" "${link[@]}" &&
        "$CC" "${strict[@]}" -Iinclude -Itests/c tests/compat/test_compat.c -o "$out/test_compat" -lpthread "${link[@]}"
}

# How 0.1 told a worker of itself: its header must be the old one.
is_old() { ! grep -q cl_reload tests/compat/0.1/cluster.h && grep -q cl_reload include/cluster.h; }

# run WORKER MECHANISM POLICY
run() {
    local status=0
    COMPAT_OLD=$out/$1 COMPAT_NEW=$out/new CL_MECHANISM=$2 COMPAT_POLICY=$3 timeout --kill-after=5 60 "$out/test_compat" || status=$?
    [ $status -eq 77 ] && echo "skipped: this machine does not allow the mechanism $2" && return 0
    return $status
}

check header-is-that-of-0.1 is_old
check compiles build
for worker in header linked; do
    for mechanism in passed kernel rotation; do
        check "$worker $mechanism" run $worker $mechanism rr
    done
    check "$worker none" run $worker passed none
done
check nobody-is-left nobody_is_left
finish
