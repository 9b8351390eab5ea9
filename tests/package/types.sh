#!/usr/bin/env bash
# Compiles types/ against a package's folder: types.sh PACKAGE OUT. As ES module and CommonJS, with the compiler of today and the one
# before it (they share no code), with the newest @types/node and the oldest that goes with a Node we support (its cluster is declared
# in another shape). Leaves the compiled programs in OUT/newest/out.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
package=$(realpath "$1")
mkdir -p "$2"
out=$(realpath "$2")
status=0

# compile NAME COMPILER CONFIGURATION
compile() {
    node "$here/node_modules/$2/bin/tsc" -p "$out/$1/$3" && return 0
    echo "not clean: $3 with $2 and the $1 @types/node"
    status=1
}

for name in newest oldest; do
    rm -rf "${out:?}/$name"
    mkdir -p "$out/$name/node_modules/@types" "$out/$name/node_modules/cluster-rs"
    cp "$package"/package.json "$package"/*.d.?ts "$out/$name/node_modules/cluster-rs"
    cp "$here"/types/* "$out/$name"
done
ln -sfn "$here/node_modules/@types/node" "$out/newest/node_modules/@types/node"
ln -sfn "$here/node_modules/types-node-20" "$out/oldest/node_modules/@types/node"

compile newest typescript tsconfig.json
compile newest typescript tsconfig.bundler.json
compile oldest typescript tsconfig.json
compile newest typescript-5 tsconfig.json
compile oldest typescript-5 tsconfig.commonjs.json
exit $status
