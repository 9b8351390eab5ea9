#!/usr/bin/env bash
# The benchmark with next to nothing to do: that it works, and that it believes no server. What it measures is of no interest
# here. From the root of the repository:
#
#   tests/bench/run.sh
#
# LIBDIR  where libcluster.so is (target/release)      BUILD  where programs and results go (target/c)
set -euo pipefail
cd "$(dirname "$0")/../.."
. scripts/suite.sh
libdir=$(realpath "${LIBDIR:-target/release}")
mkdir -p "${BUILD:-target/c}/bench"
out=$(realpath "${BUILD:-target/c}/bench")
# By this the processes of this run are known at its end.
export CHECK_RUN=$$.$EPOCHREALTIME
unset CL_WORKER_ID CL_WORKER_SLOT CL_CHANNEL_FD CL_MECHANISM

[ -e "$libdir/libcluster.so.0" ] || ln -sf libcluster.so "$libdir/libcluster.so.0"
"${CARGO:-cargo}" build -q -p cluster-bench
bench=$(realpath "${CARGO_TARGET_DIR:-target}/debug/cluster-bench")

run() { timeout --kill-after=10 300 "$bench" --library "$libdir" --out "$out" "$@"; }

# Fails unless the text is in what the command before wrote.
says() { grep -qF -- "$1" "$out/log" || { echo "it does not say '$1':"; cat "$out/log"; return 1; }; }

every_figure() {
    rm -rf "$out/results" "$out/charts"
    run --root . --tiny --only single,reuseport,passed,node-rr >"$out/log" 2>&1 || { cat "$out/log"; return 1; }
    local figure file
    for figure in cost spread stall kill memory scale wakes idle lasting reload http block open open-node; do
        grep -q '^[^#]' "$out/results/$figure.tsv" || { echo "no results of $figure"; cat "$out/log"; return 1; }
    done
    for file in "$out"/charts/*.svg; do
        tail -n 1 "$file" | grep -q '^</svg>$' || { echo "$file is not whole"; return 1; }
    done
    says 'passed / SO_REUSEPORT: CPU' && says 'kernel: lost when a hung worker is killed'
}

# What every_figure measured, drawn into a project that had no results.
page_and_charts() {
    local root=$out/page
    rm -rf "$root"
    mkdir -p "$root/bench/contenders" "$root/docs"
    cp -r "$out/results" "$root/bench/results"
    printf 'before\n<!-- results: written by make bench -->\nold\n<!-- end of results -->\nafter\n' >"$root/docs/performance-figures.md"
    run --root "$root" --draw >"$out/log" 2>&1 || { cat "$out/log"; return 1; }
    cp "$root/docs/performance-figures.md" "$out/log"
    says '| passed / SO_REUSEPORT: drain | >= 0.85 |' && says '![Server CPU per connection, microseconds](charts/cpu.svg)' &&
        says 'command: cluster-bench --tiny' && ! grep -qx old "$out/log" || return 1
    [ "$(head -n 1 "$out/log")" = before ] && [ "$(tail -n 1 "$out/log")" = after ] || { cat "$out/log"; return 1; }
    local chart
    for chart in $(sed -n 's/^!\[.*\](charts\/\(.*\))$/\1/p' "$out/log"); do
        [ -s "$root/docs/charts/$chart" ] || { echo "no chart $chart"; return 1; }
    done
    run --root "$root" --draw >/dev/null 2>&1
    cmp "$root/docs/performance-figures.md" "$out/log"
}

other_contenders() {
    run --root . --tiny --only shared,exclusive,blocking,reuseport-blocking,handover,none,libuv,nginx,nginx-reuseport,node-none,cluster-rs-passed \
        cost >"$out/log" 2>&1 || { cat "$out/log"; return 1; }
    says 'bare hand-over'
}

without_node() {
    NODE=/nonexistent run --root . --tiny http >"$out/log" 2>&1 || { cat "$out/log"; return 1; }
    says 'without node-rr: no Node is installed'
}

# The same project, but for a server that forgets one connection in a hundred.
forgetful_server() {
    local root=$out/forgetful
    rm -rf "$root"
    mkdir -p "$root/bench"
    cp -r include "$root/include"
    cp -r bench/contenders "$root/bench/contenders"
    sed -i 's/slots\[slot\]\.served++;/slots[slot].served += ++forgotten % 100 != 0;/; s/^static struct board \*board;/&\nstatic unsigned forgotten;/' \
        "$root/bench/contenders/board.h"
    if run --root "$root" --out "$root/out" --tiny --only single cost >"$out/log" 2>&1; then
        echo "what a server did not serve was not noticed"
        return 1
    fi
    says 'FAILED single: served 198 of 200 connections'
}

wrong_words() {
    local words
    for words in --nothing '--only nobody' '--record --quick' '--rounds 0' '--bound 0' '--against . --draw'; do
        # shellcheck disable=SC2086 # A list of words.
        if run $words >"$out/log" 2>&1; then echo "'$words' was taken"; return 1; fi
        says 'usage: cluster-bench' || return 1
    done
}

# A build beside itself. One round is told and judged by nobody: what is said and kept is what can be looked at.
two_builds() {
    rm -rf "$out/against"
    run --root . --tiny --against "$libdir" --only passed,cluster-rs-passed,reuseport cost http >"$out/log" 2>&1 ||
        { cat "$out/log"; return 1; }
    says 'the library is the same' && says 'rows compared, 0 better, 0 WORSE' && says 'not judged' || return 1
    local side
    for side in new old; do
        grep -q '^cpu.passed' "$out/against/$side/cost.tsv" || { echo "no results of $side"; cat "$out/log"; return 1; }
    done
    # The baseline was named, but there is one build of it.
    grep -q '^cpu.reuseport' "$out/against/new/cost.tsv" && ! grep -q '^cpu.reuseport' "$out/against/old/cost.tsv" ||
        { echo "not one build of the baseline"; return 1; }
    cp "$out/against/verdict.txt" "$out/log"
    says 'drained, connections/s (new, old, times worse)' && says 'rows compared'
}

# A stub is a build of its own kind each time: of no library, of another ABI, of a version without what is called.
wrong_builds() {
    local old=$out/stub
    refused() {
        if run --root . --tiny --against "$old" --only passed cost >"$out/log" 2>&1; then echo "$1: taken"; return 1; fi
        says "$1"
    }
    rm -rf "$old"
    refused 'No such file or directory' || return 1
    mkdir -p "$old"
    refused 'no libcluster.so in' || return 1
    echo text >"$old/libcluster.so"
    refused 'is no library with a SONAME' || return 1
    echo 'int cl_serve;' >"$old/stub.c"
    "${CC:-cc}" -shared -fPIC -Wl,-soname,libcluster.so.99 "$old/stub.c" -o "$old/libcluster.so"
    refused 'is libcluster.so.99 and this build is libcluster.so.' || return 1
    "${CC:-cc}" -shared -fPIC -Wl,-soname,"$(scripts/soname.sh "$libdir/libcluster.so")" "$old/stub.c" -o "$old/libcluster.so"
    refused 'lacks what bench/contenders/cluster.c calls: cl_accept, ' || return 1
    # A checkout with a library and no addon: Node's contenders are left out, and without them nothing is compared.
    rm -rf "$old"
    mkdir -p "$old/target/release" "$old/node-addon"
    cp "$libdir/libcluster.so" "$old/target/release/libcluster.so.0"
    if run --root . --tiny --against "$old" --only cluster-rs http >"$out/log" 2>&1; then echo "nothing was compared"; return 1; fi
    says 'without old cluster-rs: the addon in' && says 'Nothing was compared'
}

check every-figure every_figure
check two-builds two_builds
check wrong-builds wrong_builds
check page-and-charts page_and_charts
check other-contenders other_contenders
check without-node without_node
check forgetful-server forgetful_server
check wrong-words wrong_words
check nobody-is-left nobody_is_left
finish
