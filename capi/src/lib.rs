//! The C interface of libcluster: a thin layer that turns C's values into the engine's and back, and lets no panic out.
//!
//! The doc comments of this crate are the C manual; `include/cluster.h` is generated from them. Their order: effect;
//! parameters with unit and owner; returns; errors worth handling; threads, fork and signals; since.
#![allow(unsafe_code)] // Every function here is called from C with raw pointers.
#![allow(non_camel_case_types)] // The types carry their C names.

// The header has the functions in the order of these modules; a blank line keeps rustfmt from sorting them.
mod constants;
mod convert;
mod errno_table;
mod errors;
mod guard;
#[cfg(feature = "panic-injection")]
mod injection;
mod last_error;
mod structs;
mod version;

mod events;
mod identity;

mod settings;

mod making;
mod renewing;
mod running;
mod workers;

mod sockets;
mod worker;
