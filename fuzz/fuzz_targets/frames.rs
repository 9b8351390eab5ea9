//! Every decoder of the protocol. What it checks stands in `core/src/fuzzing/frames.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| cluster_core::fuzzing::frames(bytes));
