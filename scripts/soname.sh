#!/usr/bin/env bash
# Prints the name under which programs will look for a shared library at run time. capi/build.rs decides it.
set -euo pipefail
name=$(readelf -d "$1" | sed -n 's/.*(SONAME).*\[\(.*\)\]/\1/p')
[ -n "$name" ] || { echo "$1 has no SONAME" >&2; exit 1; }
echo "$name"
