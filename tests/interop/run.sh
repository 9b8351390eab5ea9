#!/usr/bin/env bash
# Workers in C, in Rust and in Node on one port, under primaries in each. From the root of the repository:
#
#   tests/interop/run.sh [name ...]        all tests, or the files whose names begin so: turns faults
#
# NODE    the Node to test with (node)
# LIBDIR  where libcluster.so is (target/release)      BUILD  where the C programs go (target/c)
set -euo pipefail
cd "$(dirname "$0")/../.."
export NODE=${NODE:-node}
# What the caller's Node was told, or the caller's own cluster, is not what is tested.
unset NODE_OPTIONS NODE_TEST_CONTEXT NODE_UNIQUE_ID NODE_CLUSTER_SCHED_POLICY CL_WORKER_ID CL_WORKER_SLOT CL_CHANNEL_FD

fail() {
    echo "tests/interop: $*" >&2
    echo "0 passed, 1 failed"
    exit 1
}

command -v "$NODE" >/dev/null 2>&1 || fail "no such Node: $NODE"
lib=$(realpath "${LIBDIR:-target/release}")
mkdir -p "${BUILD:-target/c}/interop/lib"
out=$(realpath "${BUILD:-target/c}/interop")
[ -e "$lib/libcluster.so" ] || fail "no libcluster.so in $lib"

# Programs look for the library by its SONAME, which cargo does not write.
ln -sfn "$lib/libcluster.so" "$out/lib/libcluster.so"
ln -sfn "$lib/libcluster.so" "$out/lib/libcluster.so.0"
compile() { # program options ...
    local program=$1
    shift
    "${CC:-cc}" -std=c99 -Wall -Wextra -Wpedantic -Werror -O1 -g -Iinclude -o "$out/$program" \
        tests/interop/program.c "$@"
}
compile c "-L$out/lib" "-Wl,-rpath,$out/lib" -lcluster || fail "the program in C does not compile"
compile header -DCL_HEADER_ONLY || fail "the program in C does not compile with the header alone"
"${CARGO:-cargo}" build -q -p cluster-core --example interop || fail "the program in Rust does not compile"
ls node-addon/*.node >/dev/null 2>&1 || "$NODE" node-addon/scripts/build.mjs || fail "the addon could not be built"
export INTEROP_C=$out/c INTEROP_HEADER=$out/header INTEROP_LIBRARY=$out/lib
INTEROP_RUST=$(realpath "${CARGO_TARGET_DIR:-target}/debug/examples/interop")
export INTEROP_RUST

files=()
for file in tests/interop/*.test.cjs; do
    [ $# -eq 0 ] && files+=("$file")
    for name in "$@"; do
        if [[ $(basename "$file") == "$name"* ]]; then files+=("$file"); break; fi
    done
done
[ ${#files[@]} -gt 0 ] || fail "no test has such a name: $*"
TEST_FILES=$(printf '%s\n' "${files[@]}")
export TEST_FILES

# The last line is kept back, so that it is the last one whatever still writes.
status=0
log=$(mktemp)
trap 'rm -f "$log"' EXIT
timeout --kill-after=10 "${LIMIT:-600}" "$NODE" --test --test-concurrency="${JOBS:-2}" \
    --test-reporter=./tests/node/support/reporter.cjs "${files[@]}" 2>&1 |
    tee "$log" | sed '/^[0-9]* passed, [0-9]* failed\(, [0-9]* skipped\)\{0,1\}$/d' || status=$?
counted=$(grep -E '^[0-9]+ passed, [0-9]+ failed(, [0-9]+ skipped)?$' "$log" | tail -n 1) ||
    fail "the tests ended before they were counted"
echo "$counted"
[ $status -eq 0 ] && [[ $counted =~ ^[1-9][0-9]*\ passed,\ 0\ failed ]]
