#!/usr/bin/env bash
# Installs into an empty directory, builds a program against what lies there in every documented way, and uninstalls.
# LIBDIR: where the built library is; BUILD: where to build.
set -euo pipefail
cd "$(dirname "$0")/../.."
. scripts/suite.sh

built=$(realpath "${LIBDIR:-target/release}")
mkdir -p "${BUILD:-target/c}"
out=$(realpath "${BUILD:-target/c}")/install
CC=${CC:-cc}
version=$(scripts/version.sh)
multiarch=$($CC -print-multiarch)
rm -rf "$out"
mkdir -p "$out"

# One tree as a person installs it, and one as a Debian package would.
plain=$out/plain
packaged=$out/packaged

# LIBDIR means the built library here and the installed one there; the outer make's flags are not for this one either.
do_make() { env -u LIBDIR -u MAKEFLAGS -u MAKELEVEL CARGO_TARGET_DIR="$(dirname "$built")" make -s "$@"; }
in_plain() { do_make "$1" DESTDIR="$plain" PREFIX=/usr/local; }
in_packaged() { do_make "$1" DESTDIR="$packaged" PREFIX=/usr LIBDIR="/usr/lib/$multiarch"; }

files_of() { (cd "$1" && find . -type f -o -type l | sed 's|^\./||' | LC_ALL=C sort); }

expected_files() {
    LC_ALL=C sort <<LIST
$2/cluster.h
$1/libcluster.a
$1/libcluster.so
$1/libcluster.so.0
$1/libcluster.so.$version
$1/pkgconfig/libcluster.pc
$1/cmake/cluster/cluster-config.cmake
$1/cmake/cluster/cluster-config-version.cmake
LIST
}

install_plain() { in_plain install && diff -u <(expected_files usr/local/lib usr/local/include) <(files_of "$plain"); }
install_packaged() { in_packaged install && diff -u <(expected_files "usr/lib/$multiarch" usr/include) <(files_of "$packaged"); }

# The name a program asks for at run time, the name the linker looks for, and the file are one chain.
links() {
    local lib=$plain/usr/local/lib soname
    soname=$(scripts/soname.sh "$lib/libcluster.so.$version")
    [ "$soname" = libcluster.so.0 ] &&
        [ "$(readlink "$lib/$soname")" = "libcluster.so.$version" ] &&
        [ "$(readlink "$lib/libcluster.so")" = "$soname" ] &&
        cmp "$lib/libcluster.so" "$built/libcluster.so" &&
        cmp "$plain/usr/local/include/cluster.h" include/cluster.h
}

# The library keeps its symbol table, for profilers and backtraces, and leaves its debug information at home.
lean() { readelf -SW "$plain/usr/local/lib/libcluster.so" | awk '/ \.debug_info/ { bad = 1 } / \.symtab/ { table = 1 } END { exit bad || !table }'; }

header_version() {
    local numbers
    numbers=$(printf '#include <cluster.h>\nCL_VERSION_MAJOR.CL_VERSION_MINOR.CL_VERSION_PATCH\n' |
        $CC -I"$plain/usr/local/include" -E -P -x c - | tail -n 1 | tr -d ' ')
    echo "cluster.h says $numbers"
    [ "$numbers" = "$version" ]
}

# $1: the directory of libcluster.pc. Nothing of the machine's own may be found instead.
pc() {
    local where=$1
    shift
    PKG_CONFIG_LIBDIR=$where PKG_CONFIG_PATH="" pkg-config "$@" libcluster
}

pc_file() { pc "$1" --validate && [ "$(pc "$1" --modversion)" = "$version" ]; }

# What the Rust standard library of this toolchain wants is what both files offer. The unwinder comes from the compiler driver.
system_libraries() {
    local wanted library status=0
    wanted=$(echo | rustc --crate-type staticlib --crate-name empty --print native-static-libs -o "$out/empty.a" - 2>&1 |
        sed -n 's/.*native-static-libs: //p')
    [ -n "$wanted" ] || return 1
    for library in $wanted; do
        case $library in
        -lgcc_s | -lc) ;;
        *)
            if ! grep -qE "^Libs\.private:.* $library( |\$)" packaging/libcluster.pc.in ||
                ! grep -qE "INTERFACE_LINK_LIBRARIES.*[\";]${library#-l}[\";]" packaging/cluster-config.cmake.in; then
                echo "not offered: $library"
                status=1
            fi
            ;;
        esac
    done
    return $status
}

# The three functions below split pkg-config's output into words on purpose.
# shellcheck disable=SC2046
shared_with() {
    $CC -std=c99 -Wall -Wextra -Werror tests/install/program.c -o "$3" $(pc "$1" --cflags --libs) &&
        readelf -d "$3" | grep -F 'Shared library: [libcluster.so.0]' &&
        LD_LIBRARY_PATH=$2 "$3" "$version"
}

# The whole program without any shared library. glibc's own warnings about getaddrinfo and the like are no errors.
# shellcheck disable=SC2046
static_with() {
    $CC -static -std=c99 -Wall -Wextra tests/install/program.c -o "$2" $(pc "$1" --static --cflags --libs) &&
        ! readelf -d "$2" | grep -F 'Shared library' && "$2" "$version"
}

# Only libcluster inside the program, the rest shared.
# shellcheck disable=SC2046
archive_with() {
    $CC -std=c99 -Wall -Wextra -Werror tests/install/program.c -o "$2" \
        $(pc "$1" --static --cflags --libs | sed 's/-lcluster/-l:libcluster.a/') &&
        ! readelf -d "$2" | grep -F libcluster && "$2" "$version"
}

# A tree that was moved as a whole still works: nothing in it names its place.
moved() {
    mv "$plain" "$out/moved" && plain=$out/moved && ! grep -rIF -e "$out" -e /usr/local "$plain" &&
        shared_with "$plain/usr/local/lib/pkgconfig" "$plain/usr/local/lib" "$out/after_move"
}

cmake_with() { cmake -S tests/install -B "$out/$1" -DCMAKE_PREFIX_PATH="$2" -DWANTED_VERSION="$3"; }

cmake_programs() {
    cmake_with "$1" "$2" "${version%.*}" && cmake --build "$out/$1" &&
        readelf -d "$out/$1/with_shared" | grep -F 'Shared library: [libcluster.so.0]' &&
        ! readelf -d "$out/$1/with_static" | grep -F libcluster &&
        "$out/$1/with_shared" "$version" && "$out/$1/with_static" "$version"
}

cmake_wrong_version() {
    ! cmake_with cmake_wrong "$plain/usr/local" 99.0 >"$out/cmake_wrong.log" 2>&1 &&
        grep -F "version: $version" "$out/cmake_wrong.log"
}

# What another version installed is not this version's to remove.
uninstall_all() {
    : >"$plain/usr/local/lib/libcluster.so.9.0.0" && ln -s libcluster.so.9.0.0 "$plain/usr/local/lib/libcluster.so.9" &&
        in_plain uninstall && in_packaged uninstall &&
        diff -u <(printf 'usr/local/lib/libcluster.so.9\nusr/local/lib/libcluster.so.9.0.0\n') <(files_of "$plain") &&
        [ -z "$(files_of "$packaged")" ] && [ -z "$(find "$plain" "$packaged" -name cmake -o -name pkgconfig)" ]
}

check install install_plain
check install-multiarch install_packaged
check soname-and-links links
check no-debug-information lean
check header-version header_version
check system-libraries system_libraries
check pkg-config pc_file "$plain/usr/local/lib/pkgconfig"
check pkg-config-multiarch pc_file "$packaged/usr/lib/$multiarch/pkgconfig"
check shared shared_with "$plain/usr/local/lib/pkgconfig" "$plain/usr/local/lib" "$out/shared"
check shared-multiarch shared_with "$packaged/usr/lib/$multiarch/pkgconfig" "$packaged/usr/lib/$multiarch" "$out/shared_multiarch"
check static static_with "$plain/usr/local/lib/pkgconfig" "$out/static"
check archive archive_with "$plain/usr/local/lib/pkgconfig" "$out/archive"
check moved moved
check cmake cmake_programs cmake "$plain/usr/local"
check cmake-multiarch cmake_programs cmake_multiarch "$packaged/usr"
check cmake-wrong-version cmake_wrong_version
check uninstall uninstall_all
finish
