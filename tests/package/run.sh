#!/usr/bin/env bash
# Packs cluster-rs, installs the tarball into empty folders as a user would, and runs, type-checks and breaks what is there.
# BUILD: where to work. The addon must have been built (make addon).
set -euo pipefail
cd "$(dirname "$0")/../.."
. scripts/suite.sh
scripts/node_modules.sh tests/package

here=$PWD/tests/package
mkdir -p "${BUILD:-target/c}"
out=$(realpath "${BUILD:-target/c}")/package
addon=cluster-rs.linux-$(node -p process.arch)-gnu.node
[ -f "node-addon/$addon" ] || { echo "tests/package: node-addon/$addon is not there; run: make addon" >&2; exit 1; }
rm -rf "$out"
mkdir -p "$out/tarballs"
# npm must not find a registry: what is installed here has no dependency to fetch, and is not published.
export npm_config_offline=true npm_config_audit=false npm_config_fund=false npm_config_update_notifier=false

packed() { npm pack "$1" --ignore-scripts --loglevel=error --pack-destination "$out/tarballs"; }

tarball() { echo "$out/tarballs/cluster-rs-$(node -p "require('./node-addon/package.json').version").tgz"; }

files_of() { tar -tzf "$1" | sed 's|^package/||' | LC_ALL=C sort; }

# Every file is named, but for the program's own, which are those of the checkout: what is new in a tarball is put there on purpose.
expected_files() {
    { cat tests/package/files.txt && (cd node-addon && find bin lib -name '*.cjs'); } | sed "s|ADDON|$addon|" | LC_ALL=C sort
}

contents() { diff -u <(expected_files) <(files_of "$(tarball)"); }

# No script of the package runs when it is installed: cargo is not even to be found.
installed() {
    mkdir -p "$1" && (cd "$1" && CARGO=/nonexistent npm install --loglevel=error "${@:2}") && cp tests/package/programs/* "$1"
}
install_without_scripts() { installed "$out/plain" --ignore-scripts "$(tarball)"; }
install_with_scripts() { installed "$out/scripts" "$(tarball)"; }

# in_folder FOLDER PROGRAM...: with a NODE_PATH or a preload of the caller, none of this would tell anything.
in_folder() { (cd "$out/$1" && env -u NODE_PATH -u NODE_OPTIONS timeout --kill-after=10 120 "${@:2}"); }

released() {
    node node-addon/scripts/npm-dirs.mjs "$out/release" &&
        packed "$out/release/cluster-rs-linux-$(node -p process.arch)-gnu" &&
        mkdir "$out/tarballs/release" && npm pack "$out/release/cluster-rs" --loglevel=error --pack-destination "$out/tarballs/release" &&
        installed "$out/prebuilt" --ignore-scripts "$out"/tarballs/release/cluster-rs-*.tgz "$out"/tarballs/cluster-rs-linux-*.tgz &&
        in_folder prebuilt node -e "require('node:assert').ok(!require('fs').existsSync('node_modules/cluster-rs/$addon'))"
}

unpacked() { mkdir -p "$out/unpacked" && tar -xzf "$(tarball)" -C "$out/unpacked"; }
types() { tests/package/types.sh "$out/unpacked/package" "$out/types"; }
names() {
    cp -r "$out/types/newest/out/names.mjs" "$out/plain/" && in_folder plain node names.mjs
}

# Resolution as Node 10 had it does not know "exports", so there only the main entry can be found.
attw() { node tests/package/node_modules/@arethetypeswrong/cli/dist/index.js "$(tarball)" --no-color --no-emoji "$@"; }

check pack packed "$PWD/node-addon"
check contents contents
check install-without-scripts install_without_scripts
check install-with-scripts install_with_scripts
check hello-commonjs in_folder plain node hello.cjs cluster-rs
check hello-esm in_folder plain node hello.mjs
check hello-import-register in_folder plain node --import cluster-rs/register hello.cjs node:cluster
check hello-require-register in_folder plain node --require cluster-rs/register hello.cjs node:cluster
check hello-register-in-node-options in_folder plain env NODE_OPTIONS='--require cluster-rs/register' node hello.cjs node:cluster
check command-line in_folder plain node command-line.cjs
check release released
check release-hello in_folder prebuilt node hello.cjs cluster-rs
check unpack unpacked
check types types
check names names
check attw-main attw --entrypoints .
check attw-node16-and-later attw --profile node16
for case in $(node "$here/load.cjs" --list); do
    check "$case" node "$here/load.cjs" "$case" "$out/plain/node_modules/cluster-rs" "$out/load"
done
for case in $(node "$here/build.cjs" --list); do
    check "$case" node "$here/build.cjs" "$case" "$PWD/node-addon" "$out/build"
done
finish
