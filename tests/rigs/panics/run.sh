#!/usr/bin/env bash
# A panic behind each function of the C interface (panics.c). Builds a library of its own, in which panics can be wanted.
# BUILD: where to build; CC: the compiler.
set -euo pipefail
cd "$(dirname "$0")/../../.."
. scripts/suite.sh
target=${CARGO_TARGET_DIR:-$PWD/target}/panics
out=${BUILD:-target/c}/panics
mkdir -p "$out"
unset CL_WORKER_ID CL_WORKER_SLOT CL_CHANNEL_FD

built() {
    CARGO_TARGET_DIR=$target cargo build -q -p cluster-capi --features panic-injection &&
        ln -sfn libcluster.so "$target/debug/libcluster.so.0" &&
        "${CC:-cc}" -std=gnu11 -Wall -Wextra -Werror -O1 -g -Iinclude tests/rigs/panics/panics.c -o "$out/panics" -L"$target/debug" \
            -Wl,-rpath,"$target/debug" -lcluster -pthread
}

# Whoever adds a function adds it there.
every_function() { diff -u tests/abi/symbols.txt <("$out/panics" names | LC_ALL=C sort); }

in_mechanism() {
    # The messages of panics that were wanted are thousands.
    RUST_BACKTRACE=0 CL_MECHANISM=$1 timeout --kill-after=5 120 "$out/panics" 2>"$out/$1.log" || { tail -n 40 "$out/$1.log"; return 1; }
}

check built built
check every-function every_function
check panics-passed in_mechanism passed
check panics-auto in_mechanism auto
# This mechanism takes a privilege (CAP_BPF or CAP_SYS_ADMIN).
capable=$((16#$(sed -n 's/^CapEff:\s*//p' /proc/self/status)))
((capable >> 39 & 1 || capable >> 21 & 1)) && check panics-kernel in_mechanism kernel
check panics-rotation in_mechanism rotation
finish
