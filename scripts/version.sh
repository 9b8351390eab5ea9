#!/usr/bin/env bash
# Prints the project's version. It is written by hand in Cargo.toml, and again in node-addon/package.json because npm reads
# it there; scripts/check.sh compares the two.
set -euo pipefail
cd "$(dirname "$0")/.."
version=$(sed -n '/^\[workspace\.package\]/,/^\[/s/^version *= *"\(.*\)"/\1/p' Cargo.toml)
[[ $version =~ ^[0-9]+\.[0-9]+\.[0-9]+ ]] || { echo "no version in Cargo.toml" >&2; exit 1; }
echo "$version"
