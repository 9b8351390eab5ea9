#!/bin/bash
# Many connections and replacements, and what is left of them in the primary; see soak.c. From the root of the repository:
#
#   tests/rigs/soak/run.sh
#
# CONNECTIONS REPLACEMENTS  how many, for each mechanism (5,000 and 400)
# BUILD   where the program goes (target/c)     LIBDIR  where libcluster.so is (target/release)     CC  the compiler (cc)
set -u
here=$(dirname "$0")
build=$(realpath -m "${BUILD:-target/c}")/soak
libdir=$(realpath -m "${LIBDIR:-target/release}")
# What the allocator keeps for the next call of the same size counts as in use, and would be taken for growth.
export GLIBC_TUNABLES=glibc.malloc.tcache_count=0
unset CL_WORKER_ID CL_WORKER_SLOT CL_CHANNEL_FD CL_MECHANISM
[ -e "$libdir/libcluster.so.0" ] || ln -sf libcluster.so "$libdir/libcluster.so.0"
mkdir -p "$build"
${CC:-cc} -std=c11 -D_GNU_SOURCE -Wall -Wextra -Werror -g -O1 -I"$here/../../../include" "$here/soak.c" -o "$build/soak" \
    "-L$libdir" -lcluster "-Wl,-rpath,$libdir" -lpthread || { echo "0 passed, 1 failed"; exit 1; }
passed=0 failed=0 skipped=0
for mechanism in passed kernel rotation; do
    timeout --kill-after=5 200 "$build/soak" $mechanism "${CONNECTIONS:-5000}" "${REPLACEMENTS:-400}"
    case $? in
    0) passed=$((passed + 1)) ;;
    77) skipped=$((skipped + 1)) && echo "skip: the mechanism $mechanism is not allowed here" ;;
    *) failed=$((failed + 1)) && echo "FAIL $mechanism" ;;
    esac
done
echo "$passed passed, $failed failed$([ $skipped = 0 ] || echo ", $skipped skipped")"
[ $failed -eq 0 ]
