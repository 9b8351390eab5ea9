#!/usr/bin/env bash
# Makes sure that the tools for one make target are here: setup.sh build|addon|test|check|install|valgrind|asan|tsan|bench|bench-contenders|faults|fuzz.
# As root on Debian or Ubuntu it installs what is missing; otherwise it says what to install, and fails.
set -euo pipefail
cd "$(dirname "$0")/.."

# Debian 12 has Node 18, which is too old. Where no newer one is, one from the npm registry is put here, for this checkout only.
own_node=${CARGO_TARGET_DIR:-$PWD/target}/node
own_tools=${CARGO_TARGET_DIR:-$PWD/target}/tools
export PATH=$own_node/bin:$own_tools/bin:$PATH
oldest_node=20
fetched_node=24
cargo_fuzz=0.13.2

case ${1:-} in
build | bench) tools="cargo cc" ;;
addon) tools="cargo cc node npm" ;;
install) tools="readelf" ;;
check) tools="cargo cargo-fmt cargo-clippy cc c++ nm node npm" ;;
test) tools="cargo cc c++ nm readelf pkg-config cmake node npm strace" ;;
valgrind) tools="cargo cc c++ valgrind" ;;
asan | tsan) tools="cargo cc c++" ;;
bench-contenders) tools="libuv nginx node npm" ;;
# The parts of tests/rigs/faults/long need what stands here; prlimit is in a package that every Debian has.
faults) tools="cargo cc c++ nm node npm prlimit strace valgrind" ;;
fuzz) tools="cargo cc c++ cargo-fuzz" ;;
*)
    echo "usage: $0 build|addon|test|check|install|valgrind|asan|tsan|bench|bench-contenders|faults|fuzz" >&2
    exit 2
    ;;
esac

present() {
    case $1 in
    # rustup puts names for these two on the path even when the component is not installed.
    cargo-fmt | cargo-clippy) cargo "${1#cargo-}" --version >/dev/null 2>&1 ;;
    node) node -e "process.exit(process.versions.node.split('.')[0] >= $oldest_node ? 0 : 1)" >/dev/null 2>&1 ;;
    npm) npm --version >/dev/null 2>&1 ;;
    libuv) echo '#include <uv.h>' | "${CC:-cc}" -E -xc - >/dev/null 2>&1 ;;
    # An ordinary user's path does not lead there.
    nginx) PATH=$PATH:/usr/sbin:/usr/local/sbin command -v nginx >/dev/null 2>&1 ;;
    *) command -v "$1" >/dev/null 2>&1 ;;
    esac
}

package_of() {
    case $1 in
    cc) echo "gcc libc6-dev" ;;
    c++) echo g++ ;;
    nm | readelf) echo binutils ;;
    prlimit) echo util-linux ;;
    libuv) echo libuv1-dev ;;
    nginx) echo nginx-light ;;
    # Debian's npm brings a Node that is new enough to fetch another, and which trusts what the system trusts.
    node | npm) echo "npm ca-certificates" ;;
    *) echo "$1" ;;
    esac
}

missing_from() {
    local tool
    for tool in $tools; do present "$tool" || echo "$tool"; done
}

# The npm package that holds the bare program needs no install script; npm comes with it, because Debian's runs on Debian's Node only.
fetch_node() {
    local machine log
    case $(uname -m) in
    x86_64) machine=x64 ;;
    aarch64) machine=arm64 ;;
    *)
        echo "setup: Node $oldest_node or newer is missing, and the npm registry has none for $(uname -m)" >&2
        return 1
        ;;
    esac
    echo "setup: installing Node $fetched_node into $own_node"
    mkdir -p "$own_node/bin"
    log=$(mktemp)
    if ! npm install --prefix "$own_node" --no-save --ignore-scripts --no-audit --no-fund --loglevel=error \
        "node-linux-$machine@$fetched_node" npm@11 >"$log" 2>&1 </dev/null; then
        cat "$log" >&2
        echo "setup: Node $oldest_node or newer is missing, and npm could not install one" >&2
        return 1
    fi
    rm -f "$log"
    ln -sfn "../node_modules/node-linux-$machine/bin/node" "$own_node/bin/node"
    ln -sfn ../node_modules/npm/bin/npm-cli.js "$own_node/bin/npm"
    ln -sfn ../node_modules/npm/bin/npx-cli.js "$own_node/bin/npx"
    hash -r
}

# Whoever has any npm at all needs no right on the machine for a newer Node.
fetch_missing_node() {
    if grep -qx node <<<"$(missing_from)" && present npm; then fetch_node; fi
}

# From crates.io, for this checkout only. It builds with whatever compiler is here.
fetch_missing_cargo_fuzz() {
    grep -qx cargo-fuzz <<<"$(missing_from)" && present cargo && present cc || return 0
    echo "setup: installing cargo-fuzz $cargo_fuzz into $own_tools"
    env -u CARGO_TARGET_DIR cargo install -q cargo-fuzz --version "$cargo_fuzz" --locked --root "$own_tools"
}

fetch_missing_node
fetch_missing_cargo_fuzz
missing=$(missing_from)
[ -n "$missing" ] || exit 0

# Rust comes from rustup: Debian's own is older than this project needs, and a second one beside rustup's would confuse.
packages=""
for tool in $missing; do
    case $tool in
    cargo)
        echo "setup: Rust is missing. Install 1.88 or newer: https://rustup.rs" >&2
        exit 1
        ;;
    # Built at the end, when there is a compiler.
    cargo-fuzz) ;;
    cargo-fmt | cargo-clippy)
        echo "setup: ${tool/-/ } is missing. Run: rustup component add rustfmt clippy" >&2
        exit 1
        ;;
    *) packages="$packages $(package_of "$tool")" ;;
    esac
done
packages=$(tr ' ' '\n' <<<"$packages" | sed '/^$/d' | sort -u | tr '\n' ' ')
packages=${packages% }

if ! command -v apt-get >/dev/null 2>&1; then
    echo "setup: missing: ${missing//$'\n'/ }. Install them with this system's package manager (Debian's names: $packages)" >&2
    exit 1
fi
if [ "$(id -u)" != 0 ]; then
    echo "setup: missing: ${missing//$'\n'/ }. Run: sudo apt-get update && sudo apt-get install -y --no-install-recommends $packages" >&2
    exit 1
fi

echo "setup: installing $packages"
export DEBIAN_FRONTEND=noninteractive
apt() { apt-get -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 -qq "$@" >>"$log" 2>&1 </dev/null; }
log=$(mktemp)
# Debian starts a server that it installs; nginx is wanted as a program only.
if [[ $packages == *nginx* ]] && [ ! -e /usr/sbin/policy-rc.d ]; then
    printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
    chmod +x /usr/sbin/policy-rc.d
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
fi
# An index that cannot be brought up to date may still do; whether it did shows in the next step.
apt update || true
# shellcheck disable=SC2086 # A list of words.
if ! apt install -y --no-install-recommends $packages; then
    cat "$log" >&2
    echo "setup: could not install $packages" >&2
    exit 1
fi
rm -f "$log"

fetch_missing_node
fetch_missing_cargo_fuzz
missing=$(missing_from)
[ -z "$missing" ] || { echo "setup: still missing after installation: ${missing//$'\n'/ }" >&2; exit 1; }
