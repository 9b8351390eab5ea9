#!/usr/bin/env bash
# Prints the project's version. Cargo.toml is the only place where it is written by hand.
set -euo pipefail
cd "$(dirname "$0")/.."
version=$(sed -n '/^\[workspace\.package\]/,/^\[/s/^version *= *"\(.*\)"/\1/p' Cargo.toml)
[[ $version =~ ^[0-9]+\.[0-9]+\.[0-9]+ ]] || { echo "no version in Cargo.toml" >&2; exit 1; }
echo "$version"
