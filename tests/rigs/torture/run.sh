#!/bin/bash
# Random calls of every function of cluster.h from 8 threads; see torture.c. From the root of the repository:
#
#   tests/rigs/torture/run.sh [asan|valgrind|tsan]
#
# MODES   shared (-lcluster), header (CL_HEADER_ONLY; the primary's functions are found in libcluster.so.0 at run time), lone
#         (the same where there is no library: a process without workers). Default: all three; tsan: header and lone.
# CALLS FORKS SEED   how many calls, and children of fork(2), in each mode; the seed (drawn and printed where it is not given)
# BUILD   where the programs go (target/c)      LIBDIR  where libcluster.so is (target/release)      CC  the compiler (cc)
set -u
here=$(dirname "$0")
what=run
case "${1:-}" in asan | valgrind | tsan) what=$1 ;; esac
build=$(realpath -m "${BUILD:-target/c}")/torture
libdir=$(realpath -m "${LIBDIR:-target/release}")
cc=${CC:-cc}
include=$(realpath "$here/../../../include")
unset CL_WORKER_ID CL_WORKER_SLOT CL_CHANNEL_FD
[ -e "$libdir/libcluster.so.0" ] || ln -sf libcluster.so "$libdir/libcluster.so.0"
mkdir -p "$build"
logs=$build/logs-$what
rm -rf "$logs"
mkdir -p "$logs"

flags="-std=c11 -Wall -Wextra -Wpedantic -Werror -g -O1" modes=${MODES:-shared header lone} limit=60 wrapper=()
calls=${CALLS:-100000} forks=${FORKS:-60}
case $what in
asan)
    flags="$flags -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer"
    export CHECK_SLOW=4
    calls=${CALLS:-60000} limit=200
    ;;
valgrind)
    export CHECK_SLOW=10 CHECK_UNDER=valgrind
    calls=${CALLS:-6000} forks=${FORKS:-10} limit=300
    wrapper=(valgrind --quiet --error-exitcode=99 --leak-check=full --show-leak-kinds=definite --errors-for-leak-kinds=definite
        "--suppressions=$here/valgrind.supp" --trace-children=yes --vgdb=no "--trace-children-skip=/bin/*,/usr/bin/*" "--log-file=$logs/%p")
    ;;
tsan)
    # Our Rust is not instrumented, and what it synchronizes would be reported. So the thread sanitizer sees the worker's side in
    # header-only C, whose primary is built without it, and the process that has no library.
    export CHECK_SLOW=4
    modes=${MODES:-header lone} limit=200
    # The sanitizer of GCC 12 does not find its way in an address space that the kernel has laid out at random over 32 bits.
    wrapper=(setarch -R)
    ;;
esac
export ASAN_OPTIONS=log_path=$logs/asan:exitcode=99:detect_stack_use_after_return=1
export UBSAN_OPTIONS=print_stacktrace=1:log_path=$logs/ubsan
export TSAN_OPTIONS=log_path=$logs/tsan:exitcode=99:halt_on_error=0:die_after_fork=0

make() { # name flags... : builds one program unless it is there
    local program=$build/$what-$1
    shift
    for input in "$here"/*.[ch] "$here"/../../c/*.h "$include/cluster.h"; do
        [ "$input" -nt "$program" ] || continue
        # shellcheck disable=SC2086 # A list of words.
        $cc $flags -I"$include" "$here/torture.c" -o "$program" "$@" -lpthread || return 1
        break
    done
}

passed=0 failed=0
for mode in $modes; do
    program=$build/$what-header worker="" forks_here=$forks
    case $mode in
    shared) program=$build/$what-shared && make shared "-L$libdir" -lcluster "-Wl,-rpath,$libdir" ;;
    header) make header -DCL_HEADER_ONLY -ldl && export LD_LIBRARY_PATH=$libdir ;;
    lone) make header -DCL_HEADER_ONLY -ldl && unset LD_LIBRARY_PATH && forks_here=0 ;;
    *) echo "unknown mode $mode" && false ;;
    esac || { echo "FAIL $mode: does not compile"; failed=$((failed + 1)); continue; }
    if [ "$what" = tsan ]; then
        # shellcheck disable=SC2086 # A list of words.
        $cc $flags -fsanitize=thread -DCL_HEADER_ONLY -I"$include" "$here/torture.c" -o "$build/tsan-worker" -ldl -lpthread || exit 1
        if [ "$mode" = lone ]; then program=$build/tsan-worker; else worker=$build/tsan-worker; fi
    fi
    code=0
    text=$(timeout --kill-after=5 $limit "${wrapper[@]}" "$program" "$calls" "$forks_here" "${SEED:-0}" $worker 2>&1) || code=$?
    found=$(grep -hE -A40 'ERROR: |runtime error|WARNING: ThreadSanitizer|^==[0-9]+== [^ ]' "$logs"/* 2>/dev/null | grep -vE '^--|WARNING: ASan is ignoring' | head -60)
    if [ $code -ne 0 ] || [ -n "$found" ]; then
        printf 'FAIL %s (exit code %d)\n%s\n%s\n' "$mode" $code "$text" "$found"
        failed=$((failed + 1))
    else
        printf '%s\n' "$text" | { [ -n "${VERBOSE:-}" ] && cat || grep -v ' calls, .* succeeded$'; } | sed "s/^/$mode: /"
        passed=$((passed + 1))
    fi
    rm -rf "$logs"/*
done
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
