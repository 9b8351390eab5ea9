#!/usr/bin/env bash
# Builds every example as its first lines say, in every language version promised, and runs it with real clients.
# LIBDIR: where the library is; BUILD: where to build. CHECK_WRAP: a command to run the examples under, such as valgrind.
set -euo pipefail
cd "$(dirname "$0")/../.."
. scripts/suite.sh

lib=$(realpath "${LIBDIR:-target/release}")
mkdir -p "${BUILD:-target/c}/examples/lib"
out=$(realpath "${BUILD:-target/c}/examples")
CC=${CC:-cc}
CXX=${CXX:-c++}
CFLAGS=${CFLAGS:--O2 -g}
strict="-Wall -Wextra -Wpedantic -Werror -Iinclude"
export EXAMPLES=$out

# Programs look for the library by its SONAME, which cargo does not write.
ln -sfn "$lib/libcluster.so" "$out/lib/libcluster.so"
ln -sfn "$lib/libcluster.so" "$out/lib/libcluster.so.0"
link="-L$out/lib -Wl,-rpath,$out/lib -lcluster -pthread"

# The flags are lists of words in all of these.
# shellcheck disable=SC2086
dialects() {
    local version
    for version in c99 c11 c17; do
        $CC -std=$version $CFLAGS $strict -c "$1" -o "$out/dialect.o" || return 1
    done
    # What C programmers write and C++ has only since C++20: designated initializers, which leave fields out.
    $CXX -x c++ -std=c++17 $CFLAGS $strict -Wno-pedantic -Wno-missing-field-initializers -c "$1" -o "$out/dialect.o"
}

# shellcheck disable=SC2086
build() { # source program [option]
    [ "$2" = header_only ] && { $CC $CFLAGS $strict "$1" -o "$out/$2"; return; }
    $CC $CFLAGS $strict ${3:-} "$1" -o "$out/$2" $link
}

# Whoever opens an example learns from its first comment how to build it, run it and what to see.
head_comment() {
    local word
    for word in build: run: expect:; do
        sed -n '1,/\*\//p' "$1" | grep -Eq "^ \* $word +[^ ]" || return 1
    done
}

short() { [ "$(wc -l <examples/c/http_hello.c)" -lt 60 ]; }

# What systemd does not know it passes over, with a word and without an error. Units that need each other stand in one folder.
valid_unit() {
    local said
    said=$(systemd-analyze verify --man=no "$out/units/$1" 2>&1) || said="$said (status $?)"
    if [ -n "$said" ]; then echo "$said"; return 1; fi
}

# What docs/operations.md shows of a unit is what the unit has, without who it is.
shown() {
    local line status=0
    while IFS= read -r line; do
        grep -Fxq -- "$line" docs/operations.md || { echo "docs/operations.md does not show: $line"; status=1; }
    done < <(grep -Ev '^(#|$|Description=|Documentation=)' "$1")
    return $status
}

mkdir -p "$out/units"
for unit in examples/systemd/*; do sed "s,^ExecStart=[^ ]*,ExecStart=$(command -v true)," "$unit" >"$out/units/${unit##*/}"; done
for unit in examples/systemd/*; do
    if command -v systemd-analyze >/dev/null; then check "${unit##*/}" valid_unit "${unit##*/}"; fi
done

for unit in examples/systemd/reload.*; do check "${unit##*/}-is-shown" shown "$unit"; done

for source in examples/c/*.c; do
    name=$(basename "$source" .c)
    check "$name-head-comment" head_comment "$source"
    check "$name-dialects" dialects "$source"
    check "$name-build" build "$source" "$name"
done
check reload-build-of-version-2 build examples/c/reload.c reload2 -DVERSION=2
check http_hello-is-short short
check build-of-the-tests build tests/examples/examples.c examples

# One line for every behaviour, from the program that checks them.
for behaviour in $("$out/examples" --list); do
    check "$behaviour" "$out/examples" --only "$behaviour"
done
finish
