#!/bin/bash
# The library in other people's programs; see host.c. From the root of the repository: tests/rigs/host/run.sh
#
# BUILD   where the program goes (target/c)     LIBDIR  where libcluster.so is (target/release)     CC  the compiler (cc)
# HOST_TIMES, HOST_FIGURES: see host.c
set -u
here=$(dirname "$0")
build=$(realpath -m "${BUILD:-target/c}")/host
libdir=$(realpath -m "${LIBDIR:-target/release}")
unset CL_WORKER_ID CL_WORKER_SLOT CL_CHANNEL_FD
[ -e "$libdir/libcluster.so.0" ] || ln -sf libcluster.so "$libdir/libcluster.so.0"
mkdir -p "$build"
${CC:-cc} -std=c11 -D_GNU_SOURCE -Wall -Wextra -Werror -g -O1 -I"$here/../../../include" "$here/host.c" -o "$build/host" \
    "-L$libdir" -lcluster "-Wl,-rpath,$libdir" -lpthread || { echo "0 passed, 1 failed"; exit 1; }
text=$(timeout --kill-after=5 300 "$build/host")
status=$?
printf '%s\n' "$text"
passed=$(grep -c '^  ok ' <<<"$text")
skipped=$(grep -c '^  skip ' <<<"$text")
failed=$(grep -c '^  FAIL ' <<<"$text")
[ $status -eq 0 ] || [ "$failed" -gt 0 ] || failed=1
echo "$passed passed, $failed failed$([ "$skipped" = 0 ] || echo ", $skipped skipped")"
[ "$failed" -eq 0 ]
