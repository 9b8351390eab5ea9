#!/bin/bash
# Whether the sanitizers really look: each must find the fault that planted.c has put there for it, in the program, in what the
# library reads and writes for it, and in a worker. From the root of the repository: tests/rigs/sanitizers/planted.sh asan|valgrind|tsan
#
# BUILD   where the programs go (target/c)     LIBDIR  where the library is, for asan one that is instrumented     CC  the compiler
set -u
here=$(dirname "$0")
what=${1:?asan, valgrind or tsan}
build=$(realpath -m "${BUILD:-target/c}")/sanitizers
libdir=$(realpath -m "${LIBDIR:-target/release}")
unset CL_WORKER_ID CL_WORKER_SLOT CL_CHANNEL_FD
[ -e "$libdir/libcluster.so.0" ] || ln -sf libcluster.so "$libdir/libcluster.so.0"
mkdir -p "$build"
flags="" faults="leak leak-in-worker overflow after-free" wrapper=() link=("-L$libdir" -lcluster "-Wl,-rpath,$libdir")
case $what in
asan)
    flags="-fsanitize=address,undefined -fno-sanitize-recover=undefined"
    faults="$faults undefined"
    ;;
valgrind) wrapper=(valgrind --quiet --leak-check=full --show-leak-kinds=definite --errors-for-leak-kinds=definite --trace-children=yes) ;;
tsan)
    flags="-fsanitize=thread -DCL_HEADER_ONLY"
    faults=race
    wrapper=(setarch -R)
    link=(-ldl)
    ;;
esac
# shellcheck disable=SC2086 # A list of words.
${CC:-cc} -std=gnu11 -Wall -Wextra -Wno-use-after-free -Wno-stringop-overflow -g -O0 $flags -I"$here/../../../include" "$here/planted.c" -o "$build/$what" "${link[@]}" -lpthread ||
    { echo "0 passed, 1 failed"; exit 1; }
passed=0 failed=0
for fault in $faults; do
    case $what-$fault in
    asan-leak*) sign='LeakSanitizer: detected memory leaks' ;;
    asan-overflow) sign='heap-buffer-overflow' ;;
    asan-after-free) sign='heap-use-after-free' ;;
    asan-undefined) sign='signed integer overflow' ;;
    valgrind-leak*) sign='definitely lost' ;;
    valgrind-overflow) sign='Invalid write' ;;
    valgrind-after-free) sign='Invalid read' ;;
    *) sign='ThreadSanitizer: data race' ;;
    esac
    text=$(timeout 60 "${wrapper[@]}" "$build/$what" "$fault" 2>&1)
    if grep -q "$sign" <<<"$text"; then
        passed=$((passed + 1))
    else
        echo "FAIL $what does not find: $fault"
        echo "$text"
        failed=$((failed + 1))
    fi
done
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
