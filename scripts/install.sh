#!/usr/bin/env bash
# Puts the built library where programs find it, or takes it away again: install.sh install|uninstall.
# PREFIX, LIBDIR, INCLUDEDIR and DESTDIR mean what they mean in every Makefile; FROM is cargo's output directory.
set -euo pipefail
cd "$(dirname "$0")/.."

prefix=${PREFIX:-/usr/local}
libdir=${LIBDIR:-$prefix/lib}
includedir=${INCLUDEDIR:-$prefix/include}
dest=${DESTDIR:-}
from=${FROM:-target/release}
for directory in "$prefix" "$libdir" "$includedir"; do
    [[ $directory == /* ]] || { echo "install: '$directory' is not an absolute path" >&2; exit 1; }
done

version=$(scripts/version.sh)
real=libcluster.so.$version

# The loader's cache is the system's: only an installation into the running system concerns it.
refresh_loader() {
    if [ -z "$dest" ] && [ "$(id -u)" = 0 ] && command -v ldconfig >/dev/null; then ldconfig; fi
}

relative() { realpath -m --relative-to="$1" "$2"; }

fill() {
    sed -e "s|@VERSION@|$version|g" -e "s|@MAJOR@|${version%%.*}|g" \
        -e "s|@MINOR@|$(cut -d. -f2 <<<"$version")|g" -e "s|@SONAME@|$soname|g" -e "s|@POINTER_BYTES@|$pointer_bytes|g" \
        -e "s|@PREFIX_FROM_PC@|$(relative "$libdir/pkgconfig" "$prefix")|g" \
        -e "s|@INCLUDE_FROM_PREFIX@|$(relative "$prefix" "$includedir")|g" \
        -e "s|@INCLUDE_FROM_LIBDIR@|$(relative "$libdir" "$includedir")|g" "packaging/$1.in" >"$2/$1"
    chmod 644 "$2/$1"
}

case ${1:-} in
install)
    soname=$(scripts/soname.sh "$from/libcluster.so")
    pointer_bytes=$(readelf -h "$from/libcluster.so" | awk '/Class:/ { print ($2 == "ELF64") ? 8 : 4 }')
    install -d "$dest$libdir/pkgconfig" "$dest$libdir/cmake/cluster" "$dest$includedir"
    # Written beside and renamed: a program that has the old library mapped keeps its file.
    install -m 755 "$from/libcluster.so" "$dest$libdir/.$real.new"
    mv -f "$dest$libdir/.$real.new" "$dest$libdir/$real"
    ln -sfn "$real" "$dest$libdir/$soname"
    ln -sfn "$soname" "$dest$libdir/libcluster.so"
    install -m 644 "$from/libcluster.a" "$dest$libdir/libcluster.a"
    install -m 644 include/cluster.h "$dest$includedir/cluster.h"
    fill libcluster.pc "$dest$libdir/pkgconfig"
    fill cluster-config.cmake "$dest$libdir/cmake/cluster"
    fill cluster-config-version.cmake "$dest$libdir/cmake/cluster"
    refresh_loader
    echo "libcluster $version is in $dest$libdir, its header in $dest$includedir"
    ;;
uninstall)
    for link in "$dest$libdir"/libcluster.so "$dest$libdir"/libcluster.so.*; do
        if [ -L "$link" ] && [ "$(basename "$(readlink -m "$link")")" = "$real" ]; then rm -f "$link"; fi
    done
    rm -f "$dest$libdir/$real" "$dest$libdir/libcluster.a" "$dest$includedir/cluster.h" "$dest$libdir/pkgconfig/libcluster.pc" \
        "$dest$libdir/cmake/cluster/cluster-config.cmake" "$dest$libdir/cmake/cluster/cluster-config-version.cmake"
    # Folders that only this package or others of its kind use go when they are empty.
    rmdir --ignore-fail-on-non-empty "$dest$libdir/cmake/cluster" "$dest$libdir/cmake" "$dest$libdir/pkgconfig" 2>/dev/null || true
    refresh_loader
    ;;
*)
    echo "usage: $0 install|uninstall" >&2
    exit 2
    ;;
esac
