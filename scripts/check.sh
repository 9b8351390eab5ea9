#!/usr/bin/env bash
# What a reviewer should not have to look for. Every check runs; one that fails fails the whole at the end.
set -euo pipefail
cd "$(dirname "$0")/.."
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}
. scripts/suite.sh

# The files of the project, each ended by a NUL: from git, or, in an unpacked archive, all but what was built.
project_files() {
    if git rev-parse --git-dir >/dev/null 2>&1; then
        git ls-files -z --cached --others --exclude-standard
    else
        find . -type d \( -name target -o -name node_modules \) -prune -o -type f -printf '%P\0'
    fi
}

rust_docs() { RUSTDOCFLAGS="-D warnings" cargo doc -q --workspace --no-deps; }

exported_symbols() {
    make -s build &&
        LIBDIR=$CARGO_TARGET_DIR/release BUILD=$CARGO_TARGET_DIR/c tests/abi/run.sh
}

# The header by itself, included twice, as strictly as each standard allows, with the library and without it.
header_alone() {
    local unit mode standard status=0
    unit=$(mktemp -d)
    printf '#include "cluster.h"\n#include "cluster.h"\nint main(void) { return cl_is_primary() == 1 ? 0 : 1; }\n' |
        tee "$unit/alone.c" >"$unit/alone.cpp"
    for mode in "" -DCL_HEADER_ONLY; do
        for standard in c99 c11 c17 gnu17; do
            "${CC:-cc}" -std=$standard $mode -Wall -Wextra -Wpedantic -Werror -Iinclude -fsyntax-only "$unit/alone.c" ||
                { echo "not clean as $standard $mode"; status=1; }
        done
        for standard in c++17 c++20; do
            "${CXX:-c++}" -std=$standard $mode -Wall -Wextra -Wpedantic -Werror -Iinclude -fsyntax-only "$unit/alone.cpp" ||
                { echo "not clean as $standard $mode"; status=1; }
        done
    done
    header_refused "$unit" || status=1
    header_quiet "$unit" || status=1
    rm -rf "$unit"
    return $status
}

# Where it cannot be used the header says so once, and the compiler says nothing more.
header_refused() {
    local language where status=0
    # features.h says that this is glibc, and says it once.
    printf '#include <features.h>\n#undef __GLIBC__\n#define CL_HEADER_ONLY\n' | cat - "$1/alone.c" | tee "$1/musl.c" >"$1/musl.cpp"
    printf '#undef __linux__\n#define CL_HEADER_ONLY\n' | cat - "$1/alone.c" | tee "$1/other.c" >"$1/other.cpp"
    for language in c cpp; do
        for where in musl other; do
            "${CC:-cc}" -Wall -Wextra -Iinclude -fsyntax-only "$1/$where.$language" >"$1/said" 2>&1 && status=1
            [ "$(grep -cE ' (error|warning): ' "$1/said")" = 1 ] && grep -q 'error: .*cluster\.h: ' "$1/said" ||
                { echo "$where.$language: more than its one error"; cat "$1/said"; status=1; }
        done
    done
    return $status
}

# What a compiler says only while it optimizes, and all that Clang can say; what of that is meant stands in the header.
header_quiet() {
    local level mode standard unit status=0
    printf '%s\n' '#include "cluster.h"' '#include <string.h>' 'int main(void) {' '    struct sockaddr name;' \
        '    socklen_t length = sizeof name;' '    cl_listen_options_t options;' '    memset(&options, 0, sizeof options);' \
        '    options.size = sizeof options;' '    return cl_accept(cl_listen_with(&options), &name, &length) + cl_fork();' '}' |
        tee "$1/used.c" >"$1/used.cpp"
    for level in -O2 -O3 -Os; do
        "${CC:-cc}" $level -DCL_HEADER_ONLY -Wall -Wextra -Werror -Iinclude -c -o "$1/used.o" "$1/used.c" || status=1
    done
    command -v clang >/dev/null || return $status
    for mode in "" -DCL_HEADER_ONLY; do
        for standard in c99 c11 gnu17 c++11 c++17 c++20; do
            case $standard in c++*) unit=$1/used.cpp ;; *) unit=$1/used.c ;; esac
            clang -std=$standard $mode -Weverything -Werror -Iinclude -fsyntax-only "$unit" ||
                { echo "not clean under clang -Weverything as $standard $mode"; status=1; }
        done
    done
    return $status
}

bench_programs() {
    local program status=0
    for program in raw cluster uv; do
        # Who has no libuv can leave that one to others.
        if [ $program = uv ] && ! echo '#include <uv.h>' | "${CC:-cc}" -E -xc - >/dev/null 2>&1; then continue; fi
        "${CC:-cc}" -O2 -Wall -Wextra -Werror -Iinclude -fsyntax-only bench/contenders/$program.c || status=1
    done
    "${CC:-cc}" -O2 -Wall -Wextra -Werror -Iinclude -fsyntax-only tests/rigs/faults/workers/cluster.c tests/rigs/faults/workers/link.c || status=1
    return $status
}

# What is linked into the library or runs while it is built must be under a licence that asks for no more than a notice.
# Tools of the tests (cbindgen is MPL-2.0) are not part of it.
licences() {
    local permissive='MIT|Apache-2\.0|Apache-2\.0 WITH LLVM-exception|BSD-2-Clause|BSD-3-Clause|ISC|Zlib|Unicode-3\.0|0BSD|Unlicense'
    local list name licence alternative good file status=0
    list=$(cargo tree --workspace --edges normal,build --prefix none --no-dedupe --format '{p}|{l}' | sed '/^$/d' | sort -u)
    [ -n "$list" ] || return 1
    while IFS='|' read -r name licence; do
        good=no
        # One acceptable alternative is enough, but all that an alternative joins with AND must be acceptable.
        while read -r alternative; do
            if ! tr -d '()' <<<"$alternative" | sed 's/ AND /\n/g' | grep -Evqx " *($permissive) *"; then good=yes; fi
        done < <(sed -e 's/ OR /\n/g' -e 's|/|\n|g' <<<"$licence")
        if [ $good = no ]; then
            echo "$name is under '$licence'"
            status=1
        fi
    done <<<"$list"
    for file in LICENSE-MIT LICENSE-APACHE; do [ -s "$file" ] || { echo "no $file"; status=1; }; done
    return $status
}

# What the library is linked from may run a program while it is built. These were looked at, and none fetches anything; Cargo.lock
# pins them. Of known defects of what is linked (cargo audit) only a database in the network knows, so they are no check here.
build_programs() {
    local known='^(cfg-if|cluster-capi|cluster-rs-node|libc|memoffset|napi|napi-build|napi-sys|nix|proc-macro2|quote|serde_core|serde_json|zmij)$'
    local name status=0 host
    host=$(rustc -vV | sed -n 's/^host: //p')
    cargo metadata --locked --filter-platform "$host" --format-version 1 >"$CARGO_TARGET_DIR/metadata.json" || return 1
    while IFS= read -r name; do
        [[ $name =~ $known ]] || { echo "$name runs a program while it is built"; status=1; }
    done < <(comm -12 <(cargo tree --locked --workspace --edges normal,build --prefix none --no-dedupe --format '{p}' | cut -d' ' -f1 | sort -u) \
        <(node -p 'JSON.parse(fs.readFileSync(process.argv[1])).packages.filter((one) => one.targets.some(({ kind }) =>
            kind.includes("custom-build"))).map(({ name }) => name).join("\n")' "$CARGO_TARGET_DIR/metadata.json" | sort -u))
    return $status
}

# `unsafe` stands where it is looked for, and becomes no more by the way. Who needs more raises the number.
unsafe_code() {
    local most=373 found count
    found=$(files_named '*.rs' | xargs -0 grep -lE '^#!\[allow\([a-z_, ]*unsafe_code' |
        grep -Ev '^(core/src/sys/|capi/src/|node-addon/src/uv(\.rs$|/)|(core|capi|tests|fuzz|bench)/.*(tests?|fuzz|bench)/)' || true)
    [ -z "$found" ] || { echo "unsafe code is allowed in: $found"; return 1; }
    count=$(files_named 'core/src/*.rs' 'capi/src/*.rs' 'node-addon/src/*.rs' | xargs -0 cat | grep -cE '\bunsafe (\{|fn|impl|extern)')
    echo "$count blocks and functions"
    [ "$count" -le "$most" ]
}

shell_scripts() {
    local script status=0
    while IFS= read -r -d '' script; do
        if [ -f "$script" ] && head -c 64 "$script" | grep -aq '^#!.*\(ba\)\?sh$'; then
            bash -n "$script" || status=1
            [ -x "$script" ] || { echo "$script is not executable"; status=1; }
        fi
    done < <(project_files)
    return $status
}

# Those of the project's files that match one of the patterns, each ended by a NUL.
files_named() {
    local file pattern
    while IFS= read -r -d '' file; do
        [ -f "$file" ] || continue
        for pattern in "$@"; do
            # shellcheck disable=SC2254 # A pattern is meant.
            case $file in $pattern) printf '%s\0' "$file" ;; esac
        done
    done < <(project_files)
}

# `node --check` takes one file at a time.
javascript_syntax() { files_named '*.cjs' '*.mjs' '*.js' | xargs -0rn 1 node --check; }

npm_tools() { scripts/node_modules.sh tests/package; }

eslint() { node tests/package/node_modules/eslint/bin/eslint.js -c tests/package/eslint.config.mjs .; }

addon_types() { tests/package/types.sh node-addon "$CARGO_TARGET_DIR/c/types"; }

# A file answers one question; a longer one has begun to answer two. Tests may be longer, and what is generated.
file_sizes() {
    local exempt='^(tests|fuzz|include)/|/tests(/|\.rs$)'
    local long
    long=$(files_named '*.rs' '*.[ch]' '*.js' '*.?js' '*.ts' '*.?ts' | grep -zEv "$exempt" |
        xargs -0 wc -l | awk '$1 > 400 && $2 != "total"')
    echo "$long"
    [ -z "$long" ]
}

# Who may use whom: the lists are in the script.
arrows() { node scripts/arrows.mjs; }

# npm wants the version and the licences inside the package, so they are there twice.
addon_package() {
    local status=0 file
    [ "$(node -p "require('./node-addon/package.json').version")" = "$(scripts/version.sh)" ] ||
        { echo "node-addon/package.json has another version than Cargo.toml"; status=1; }
    for file in LICENSE-MIT LICENSE-APACHE; do cmp "$file" "node-addon/$file" || status=1; done
    return $status
}

# Whoever installs asks the registry that is set up there.
lock_files() {
    local found
    found=$(files_named '*package-lock.json' | xargs -0r grep -Hn '"resolved": "http' || true)
    head -n 5 <<<"$found"
    [ -z "$found" ]
}

# A path of the machine on which something was written or generated means nothing on another one.
machine_paths() {
    local here found
    here=$(printf '%s' "$PWD" | sed 's|[^[:alnum:]_/-]|\\&|g')
    found=$(project_files | xargs -0 grep -IHnE "(^|[^[:alnum:]_./-])($here|/home/[a-z][a-z0-9_-]*|/root|/Users/[A-Za-z]+)/" || true)
    echo "$found"
    [ -z "$found" ]
}

check format cargo fmt --all --check
check format-fuzz cargo fmt --manifest-path fuzz/Cargo.toml --check
check lints cargo clippy -q --workspace --all-targets -- -D warnings
check rust-docs rust_docs
check header-fresh cargo test -q -p cluster-capi --test header
check header-alone header_alone
check exported-symbols exported_symbols
check bench-programs bench_programs
check licences licences
check build-programs build_programs
check unsafe-code unsafe_code
check named-tests scripts/named_tests.sh
check document-names node scripts/doc_names.mjs
check shell-scripts shell_scripts
check machine-paths machine_paths
check npm-tools npm_tools
check javascript-syntax javascript_syntax
check javascript-lints eslint
check addon-types addon_types
check addon-package addon_package
check lock-files lock_files
check file-sizes file_sizes
check arrows arrows
finish
