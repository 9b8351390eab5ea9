#!/usr/bin/env bash
# Fuzzing, a minute for each target with the address sanitizer, and 10,000 random lives of a cluster beside a model of it; two and a
# half minutes on two processors. CL_FUZZ_SECONDS: for each target instead of 60. What fails is kept in $BUILD/faults/fuzz.
set -euo pipefail
cd "$(dirname "$0")/../../../.."
scripts/setup.sh fuzz
export PATH=$CARGO_TARGET_DIR/tools/bin:$PATH
seconds=${CL_FUZZ_SECONDS:-60}
out=$BUILD/faults/fuzz
rm -rf "$out"
mkdir -p "$out"

note() {
    if [ -n "${FAULTS_RESULTS:-}" ]; then "$CARGO_TARGET_DIR/release/cluster-faults" note fuzz "$@"; fi
}

# Opens the unstable flag of the sanitizer, which a stable compiler has too.
export RUSTC_BOOTSTRAP=1
places=(--fuzz-dir fuzz --target-dir "$CARGO_TARGET_DIR/fuzz")
cargo fuzz build "${places[@]}"

# fuzz TARGET LONGEST SECONDS: the corpus is read only; leaks are what `make asan` looks for, which replays it.
fuzz() {
    local found=$out/$1/found
    mkdir -p "$found"
    timeout --kill-after=10 $(($3 + 90)) cargo fuzz run "${places[@]}" "$1" "$found" "fuzz/corpus/$1" -- -max_total_time="$3" \
        -max_len="$2" -timeout=20 -detect_leaks=0 -artifact_prefix="$out/$1/" >>"$out/$1.log" 2>&1
}

# runs TARGET...: how many executions there were.
runs() {
    local target
    for target; do sed -n 's/^Done \([0-9]*\) runs.*/\1/p' "$out/$target.log"; done | awk '{ all += $1 } END { print all + 0 }'
}

sequences=10000
model() {
    # Nothing of the sanitizer's is in this one.
    CL_MODEL_SEQUENCES=$sequences timeout --kill-after=10 300 env -u RUSTC_BOOTSTRAP \
        cargo test -q -p cluster-core --lib model:: -- --nocapture --test-threads=1 >"$out/model.log" 2>&1
}

# Two at a time.
status=0
{ fuzz primary 512 "$seconds" && model; } &
primary=$!
fuzz frames 768 "$seconds" || status=1
fuzz address 512 "$seconds" || status=1
wait "$primary" || status=1
# On a slow machine the ten million take a little longer.
for target in frames address frames address; do
    if [ "$seconds" -lt 60 ] || [ $status != 0 ] || [ "$(runs frames address primary)" -ge 10000000 ]; then break; fi
    fuzz "$target" 512 20 || status=1
done

for target in frames address primary; do
    echo "$target: $(runs "$target") executions, seed $(sed -n 's/^INFO: Seed: //p' "$out/$target.log" | tr '\n' ' ')"
    note "executions of $target" "libcluster" "$(runs "$target")" "" -
done
all=$(runs frames address primary)
crashes=$(find "$out" -type f \( -name 'crash-*' -o -name 'timeout-*' -o -name 'oom-*' -o -name 'leak-*' \) | tee /dev/stderr | wc -l)
[ $status = 0 ] || tail -n 40 "$out"/*.log
# A shorter run proves less and fails nothing.
enough=met
[ $all -ge 10000000 ] || enough=missed
note "executions in all" "libcluster" "$all" "10000000" $enough
note "crashes, hangs and broken promises" "libcluster" "$crashes" "0" "$([ $status = 0 ] && [ "$crashes" = 0 ] && echo met || echo missed)"
[ "$crashes" = 0 ] || status=1

differences=0
grep '^model:' "$out/model.log" || differences="at least 1"
note "random lives of a cluster that differ from the model, of $sequences" "libcluster" "$differences" 0 \
    "$([ "$differences" = 0 ] && echo met || echo missed)"
[ "$differences" = 0 ] || status=1
echo "$all executions, $crashes crashes"
exit $status
