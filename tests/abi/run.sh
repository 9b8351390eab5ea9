#!/usr/bin/env bash
# Holds the binary interface: which symbols the library has, and what include/cluster.h says about them.
# LIBDIR: where the library is; BUILD: where to build.
set -euo pipefail
cd "$(dirname "$0")/../.."
. scripts/suite.sh

lib=${LIBDIR:-target/release}
out=${BUILD:-target/c}/abi
CC=${CC:-cc}
CXX=${CXX:-c++}
symbols=tests/abi/symbols.txt
strict="-Wall -Wextra -Wpedantic -Werror -Iinclude"
mkdir -p "$out"

exported() { diff -u "$symbols" <(nm -D --defined-only "$lib/libcluster.so" | awk '{ print $3 }' | LC_ALL=C sort); }

# The archive also holds Rust's own symbols, which are mangled and clash with nobody's.
archived() { diff -u "$symbols" <(nm --defined-only "$lib/libcluster.a" 2>/dev/null | awk '$2 == "T" && $3 ~ /^cl_/ { print $3 }' | LC_ALL=C sort); }

declared() {
    diff -u "$symbols" <(echo '#include "cluster.h"' | $CC -Iinclude -E -P -x c - | tr '\n' ' ' |
        grep -oE '\bcl_[a-z0-9_]+ ?\([^;]*;' | grep -oE '^cl_[a-z0-9_]+' | LC_ALL=C sort -u)
}

soname() { scripts/soname.sh "$lib/libcluster.so" | grep -Fx libcluster.so.0; }

# Only what every glibc system has; anything else would have to be said in the README.
needed() {
    local libraries extra
    libraries=$(readelf -d "$lib/libcluster.so" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p')
    [ -n "$libraries" ] || return 1
    extra=$(echo "$libraries" |
        grep -Evx 'libc\.so\.6|libm\.so\.6|libgcc_s\.so\.1|libpthread\.so\.0|libdl\.so\.2|librt\.so\.1|ld-linux.*\.so\.[0-9]' || true)
    echo "$extra"
    [ -z "$extra" ]
}

# $strict is a list of words in all of these.
# shellcheck disable=SC2086
contract_c11() { $CC -std=c11 $strict tests/abi/contract.c -o "$out/contract" "$lib/libcluster.so" && LD_LIBRARY_PATH=$lib "$out/contract"; }
# shellcheck disable=SC2086
contract_cxx17() { $CXX -std=c++17 $strict -x c++ tests/abi/contract.c -x none -o "$out/contract_cxx" "$lib/libcluster.so" && LD_LIBRARY_PATH=$lib "$out/contract_cxx"; }
# shellcheck disable=SC2086
contract_header_only() { $CC -std=c11 -DCL_HEADER_ONLY $strict tests/abi/contract.c -o "$out/contract_header_only" -ldl && "$out/contract_header_only"; }

check exported-symbols exported
check archived-symbols archived
check declared-functions declared
check soname soname
check needed-libraries needed
check contract-c11 contract_c11
check contract-c++17 contract_cxx17
check contract-header-only contract_header_only
finish
