#!/usr/bin/env bash
# Installs the Node package into a copy of examples/node, as the examples' first comments say, and runs each of them
# there. NODE: the Node to run them with.
set -euo pipefail
cd "$(dirname "$0")/../.."
export NODE=${NODE:-node}
# What the caller's Node was told is not what a reader's Node is told.
unset NODE_OPTIONS NODE_TEST_CONTEXT NODE_UNIQUE_ID NODE_CLUSTER_SCHED_POLICY CLUSTER_MODULE PORT WORKERS

fail() {
    echo "tests/examples-node: $*" >&2
    echo "0 passed, 1 failed"
    exit 1
}

for tool in "$NODE" npm; do
    command -v "$tool" >/dev/null 2>&1 || fail "$tool is missing"
done

EXAMPLES=$(mktemp -d)
log=$(mktemp)
trap 'rm -rf "$EXAMPLES" "$log"' EXIT
export EXAMPLES TEST_FILES=tests/examples-node/examples.test.cjs
# Without the package.json, whose dependency is a path that only holds in the checkout, and what npm made of it there.
cp examples/node/*.cjs examples/node/*.js "$EXAMPLES"
package=$PWD/node-addon
ls "$package"/*.node >/dev/null 2>&1 || "$NODE" "$package/scripts/build.mjs" || fail "the addon could not be built"
(cd "$EXAMPLES" && npm install --no-audit --no-fund --loglevel=error "$package" >"$log" 2>&1) || {
    cat "$log"
    fail "npm could not install the package"
}

# The last line is kept back, so that it is the last one whatever still writes.
status=0
last='^[0-9]+ passed, [0-9]+ failed(, [0-9]+ skipped)?$'
"$NODE" --test --test-reporter=./tests/node/support/reporter.cjs $TEST_FILES 2>&1 | tee "$log" | sed -E "/$last/d" ||
    status=$?
counted=$(grep -E "$last" "$log" | tail -n 1) || fail "the tests ended before they were counted"
echo "$counted"
[ $status -eq 0 ] && [[ $counted =~ ^[1-9][0-9]*\ passed,\ 0\ failed ]]
