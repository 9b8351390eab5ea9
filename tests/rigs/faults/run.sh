#!/usr/bin/env bash
# The quick set of the fault rig: little of each, with what is promised asserted all the same; and that the rig sees a server
# which breaks a promise. From the root of the repository:
#
#   tests/rigs/faults/run.sh
#
# LIBDIR  where libcluster.so is (target/release)      BUILD  where programs and claims go (target/c)
# SEED    what chance begins with (1)
set -euo pipefail
cd "$(dirname "$0")/../../.."
. scripts/suite.sh
libdir=$(realpath "${LIBDIR:-target/release}")
mkdir -p "${BUILD:-target/c}/faults"
out=$(realpath "${BUILD:-target/c}/faults")
# By this the processes of this run are known at its end.
export CHECK_RUN=$$.$EPOCHREALTIME
unset CL_WORKER_ID CL_WORKER_SLOT CL_CHANNEL_FD CL_MECHANISM FAULTS_RESULTS

[ -e "$libdir/libcluster.so.0" ] || ln -sf libcluster.so "$libdir/libcluster.so.0"
"${CARGO:-cargo}" build -q -p cluster-faults
rig=$(realpath "${CARGO_TARGET_DIR:-target}/debug/cluster-faults")

run() { timeout --kill-after=10 120 "$rig" --library "$libdir" --out "$out" --quick --seed "${SEED:-1}" "$@"; }

# A worker that was spoiled with sed must not pass; $1 is what is to be said of it.
spoiled() {
    local told=$1 root=$out/spoiled
    shift
    rm -rf "$root"
    mkdir -p "$root/tests/rigs/faults"
    cp -r include "$root/include"
    cp -r tests/rigs/faults/workers "$root/tests/rigs/faults/workers"
    sed -i "$@" "$root/tests/rigs/faults/workers/worker.h"
    ! cmp -s tests/rigs/faults/workers/worker.h "$root/tests/rigs/faults/workers/worker.h" || { echo "nothing was spoiled"; return 1; }
    if run --root "$root" --out "$root/out" --only passed resize >"$out/log" 2>&1; then
        echo "it was not noticed"
        cat "$out/log"
        return 1
    fi
    grep -q "BROKEN resize passed: .* $told" "$out/log" || { echo "it does not say '$told':"; cat "$out/log"; return 1; }
}

# Every fiftieth connection.
forgetful() {
    spoiled 'was lost by process' \
        's|^    } while (!answer_to(fd, &connection, 0));|        if (connection.id % 300 == 0) break;\n&|'
}
silent() {
    spoiled 'hung in the hand of process' \
        's|^    } while (!answer_to(fd, &connection, 0));|        if (connection.id % 300 == 0) poll(NULL, 0, 3000);\n&|'
}
twofold() {
    spoiled 'was taken twice' \
        's|^    if (!claim(READ, .*|&\n    if (connection->id % 50 == 0) claim(READ, worker_id, connection->port, connection->id);|'
}
quitter() {
    spoiled 'ended by itself: code 9' \
        's|^    } while (!answer_to(fd, &connection, 0));|&\n    if (connection.id % 300 == 0) _exit(9);|'
}

wrong_words() {
    local words
    for words in --nothing nothing '--only nobody' '--seeds 0'; do
        # shellcheck disable=SC2086 # A list of words.
        if run $words >"$out/log" 2>&1; then echo "'$words' was taken"; return 1; fi
        grep -q 'usage: cluster-faults' "$out/log" || { cat "$out/log"; return 1; }
    done
}

# Into a page of its own.
report() {
    local root=$out/page
    rm -rf "$root"
    mkdir -p "$root/tests/rigs/faults/workers" "$root/tests/rigs/faults/results" "$root/docs"
    printf 'before\n<!-- results: written by make faults -->\nold\n<!-- end of results -->\nafter\n' >"$root/docs/reliability-figures.md"
    : >"$root/results"
    FAULTS_RESULTS=$root/results "$rig" note soak "descriptors | sockets" "libcluster kernel" +0 0 met &&
        FAULTS_RESULTS=$root/results "$rig" note storm "hung for over 2 s, of 10,000 connections" "node:cluster RR" 41.7 "" - &&
        "$rig" --root "$root" --library "$libdir" --out "$out" report "$root/results" || return 1
    grep -qF '| descriptors \| sockets | libcluster kernel | +0 | 0 | met |' "$root/docs/reliability-figures.md" &&
        grep -qF '### Storm' "$root/docs/reliability-figures.md" && ! grep -qx old "$root/docs/reliability-figures.md" || return 1
    [ "$(tail -n 1 "$root/docs/reliability-figures.md")" = after ] && grep -qF 41.7 "$root/docs/charts/faults-storm.svg" || return 1
    cp "$root/docs/reliability-figures.md" "$out/log"
    "$rig" --root "$root" --library "$libdir" --out "$out" report && cmp "$root/docs/reliability-figures.md" "$out/log"
}

for scenario in storm comeback chaos single stuck rolling hand queue resize orphans stops stops-link reloads refusals scales recycles slots \
    rest sequences; do
    check "$scenario" run "$scenario"
done
check forgetful-worker forgetful
check silent-worker silent
check worker-that-takes-twice twofold
check worker-that-quits quitter
check wrong-words wrong_words
check report report
check nobody-is-left nobody_is_left
finish
