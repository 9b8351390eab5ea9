//! The primary, among workers that send what they like. What it checks stands in `core/src/fuzzing/primary.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| cluster_core::fuzzing::primary(bytes));
