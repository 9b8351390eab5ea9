//! Addresses as text and as the kernel has them. What it checks stands in `core/src/fuzzing/address.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| cluster_core::fuzzing::address(bytes));
