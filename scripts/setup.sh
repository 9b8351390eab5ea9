#!/usr/bin/env bash
# Makes sure that the tools for one make target are here: setup.sh build|test|check|install|valgrind|asan|bench.
# As root on Debian or Ubuntu it installs what is missing; otherwise it says what to install, and fails.
set -euo pipefail

case ${1:-} in
build | bench) tools="cargo cc" ;;
install) tools="readelf" ;;
check) tools="cargo cargo-fmt cargo-clippy cc c++ nm" ;;
test) tools="cargo cc c++ nm readelf pkg-config cmake" ;;
valgrind) tools="cargo cc c++ valgrind" ;;
asan) tools="cargo cc c++" ;;
*)
    echo "usage: $0 build|test|check|install|valgrind|asan|bench" >&2
    exit 2
    ;;
esac

present() {
    case $1 in
    # rustup puts names for these two on the path even when the component is not installed.
    cargo-fmt | cargo-clippy) cargo "${1#cargo-}" --version >/dev/null 2>&1 ;;
    *) command -v "$1" >/dev/null 2>&1 ;;
    esac
}

package_of() {
    case $1 in
    cc) echo "gcc libc6-dev" ;;
    c++) echo g++ ;;
    nm | readelf) echo binutils ;;
    *) echo "$1" ;;
    esac
}

missing_from() {
    local tool
    for tool in $tools; do present "$tool" || echo "$tool"; done
}

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
# An index that cannot be brought up to date may still do; whether it did shows in the next step.
apt update || true
# shellcheck disable=SC2086 # A list of words.
if ! apt install -y --no-install-recommends $packages; then
    cat "$log" >&2
    echo "setup: could not install $packages" >&2
    exit 1
fi
rm -f "$log"

missing=$(missing_from)
[ -z "$missing" ] || { echo "setup: still missing after installation: ${missing//$'\n'/ }" >&2; exit 1; }
