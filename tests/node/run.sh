#!/usr/bin/env bash
# Runs the tests of the Node package. From the root of the repository:
#
#   tests/node/run.sh [name ...]        all tests, or the files whose names begin so: surface data/http
#
# NODE            the Node to test with (node)
# CLUSTER_MODULE  what the programs of the tests require (cluster-rs). With node:cluster the tests look at stock Node instead, and
#                 those that only cluster-rs promises are left out: what both pass is no invention of ours
# CL_MECHANISM    forces a mechanism, passed, kernel or rotation; the kernel's needs a privilege (kernel, where that is there)
# JOBS, LIMIT     how many files run at a time (2); the seconds after which all is ended (1800)
set -euo pipefail
cd "$(dirname "$0")"
export NODE=${NODE:-node} CLUSTER_MODULE=${CLUSTER_MODULE:-cluster-rs}
# A runner that is itself under test or preloaded would change what is tested.
unset NODE_OPTIONS NODE_TEST_CONTEXT NODE_UNIQUE_ID NODE_CLUSTER_SCHED_POLICY

fail() {
    echo "tests/node: $*" >&2
    echo "0 passed, 1 failed"
    exit 1
}

command -v "$NODE" >/dev/null 2>&1 || fail "no such Node: $NODE"
NODE=$(command -v "$NODE")

# The packages of the tests, only when what they are has changed since. A failed installation leaves no mark.
wanted=$(cat package.json package-lock.json | cksum)
mark=node_modules/.installed-for-tests
if [ "$(cat $mark 2>/dev/null)" != "$wanted" ]; then
    command -v npm >/dev/null 2>&1 || fail "npm is missing"
    npm ci --ignore-scripts --no-audit --no-fund --loglevel=error || fail "npm could not install the packages of the tests"
    echo "$wanted" >$mark
fi

if [ "$CLUSTER_MODULE" = cluster-rs ] && ! ls ../../node-addon/*.node >/dev/null 2>&1; then
    "$NODE" ../../node-addon/scripts/build.mjs || fail "the addon could not be built"
fi

files=()
for file in */*.test.cjs; do
    [ $# -eq 0 ] && files+=("$file")
    for name in "$@"; do
        if [[ $file == "$name"* ]]; then files+=("$file"); break; fi
    done
done
[ ${#files[@]} -gt 0 ] && [ -e "${files[0]}" ] || fail "no test has such a name: $*"

TEST_FILES=$(printf '%s\n' "${files[@]}")
export TEST_FILES
# Found out once, and not by each file.
TESTS_MECHANISM=$("$NODE" support/mechanism.cjs) || fail "nobody knows how connections reach the workers here"
export TESTS_MECHANISM
echo "Node $("$NODE" --version), $CLUSTER_MODULE, mechanism ${TESTS_MECHANISM% *}"
status=0
# The last line is kept back, so that it is the last one whatever still writes.
log=$(mktemp)
trap 'rm -f "$log"' EXIT
timeout --kill-after=10 "${LIMIT:-1800}" \
    "$NODE" --test --test-concurrency="${JOBS:-2}" --test-reporter=./support/reporter.cjs "${files[@]}" 2>&1 |
    tee "$log" | sed '/^[0-9]* passed, [0-9]* failed\(, [0-9]* skipped\)\{0,1\}$/d' || status=$?
counted=$(grep -E '^[0-9]+ passed, [0-9]+ failed(, [0-9]+ skipped)?$' "$log" | tail -n 1) || fail "the tests ended before they were counted"
echo "$counted"
[ $status -eq 0 ] && [[ $counted =~ ^[1-9][0-9]*\ passed,\ 0\ failed ]]
