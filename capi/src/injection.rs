//! What only the library of tests/rigs/panics has.

use std::ffi::{c_int, c_uint};

/// Lets the n-th point panic that this thread passes in the engine; 0: none. Returns how many were left before.
#[unsafe(no_mangle)]
pub extern "C" fn cl_test_panic_at(point: c_uint) -> c_int {
    c_int::try_from(cluster_core::panics::panic_at(point)).unwrap_or(c_int::MAX)
}
