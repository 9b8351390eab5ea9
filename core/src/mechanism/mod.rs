//! How connections get to workers. Each mechanism is a `Route`; a handle has one, and does not know which.
//!
//! `passed`: the primary accepts. `shared`: all workers accept from one socket, and `rotation`: in turn. `kernel`: each slot has a listening socket of its
//! own, and a program in the kernel (`program`, `selector`) chooses among them. `datagrams`: the same for UDP, without a program.

mod accepting;
mod assembler;
mod datagrams;
mod given_up;
mod kernel;
mod look;
mod own_socket;
mod passed;
mod program;
mod retired;
mod rotation;
mod route;
mod selector;
mod shared;
mod standstill;

pub(crate) use accepting::Accepted;
pub(crate) use datagrams::Datagrams;
pub(crate) use given_up::give_up;
pub(crate) use kernel::{Kernel, Refused, TABLE};
pub(crate) use look::{LOOK, Look, PART_OF_RUNNING, Pulse, Watched};
pub(crate) use own_socket::{OwnSocket, Seen, Turns};
pub(crate) use passed::Passed;
pub(crate) use program::Choice;
pub(crate) use retired::Retired;
pub(crate) use rotation::Rotation;
pub(crate) use route::Route;
pub(crate) use selector::Selector;
pub(crate) use shared::Shared;
