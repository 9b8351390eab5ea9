//! What the benchmark and the fault rig (tests/rigs/faults) both need: processes, networks, charts, pages, the machine.
// Only the project's own programs use it; each module says what it is for.
#![allow(missing_docs)]

pub mod chart;
pub mod client;
pub mod error;
pub mod machine;
pub mod namespace;
pub mod page;
pub mod process;
pub mod workshop;
