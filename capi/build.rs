//! Gives the shared library its SONAME. While the version is 0.x the number moves with every break of the ABI.

fn main() {
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libcluster.so.0");
    println!("cargo::rerun-if-changed=build.rs");
}
