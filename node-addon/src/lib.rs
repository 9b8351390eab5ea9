//! The native part of the npm package `cluster-rs`: the engine for Node. JavaScript keeps everything that Node's cluster
//! says and does; what is here moves connections.

mod fleet;
mod herd;
mod keys;
pub mod lines;
pub mod listener;
mod loop_sockets;
mod names;
pub mod orphans;
pub mod pipes;
mod primary;
mod stats;
pub mod stray;
mod told;
mod uv;
mod watch;
mod worker;

use cluster_core::ListenRule;
use napi_derive::napi;

/// An engine's error as JavaScript gets it, with the sentence.
fn refusal(error: cluster_core::Error) -> napi::Error {
    napi::Error::from_reason(format!("{error} (errno {})", -error.code()))
}

/// What `accept` says when no connection waits.
#[napi]
pub const EAGAIN: i32 = libc::EAGAIN;
/// What `give` says of a connection whose client has gone.
#[napi]
pub const EINVAL: i32 = libc::EINVAL;
/// What `accept` says when this process has no descriptor left.
#[napi]
pub const EMFILE: i32 = libc::EMFILE;
/// What it says when the system has none left.
#[napi]
pub const ENFILE: i32 = libc::ENFILE;

/// What is wrong with rules for what workers may listen on, in a sentence.
#[napi]
pub fn fault_of_rules(rules: Vec<String>) -> Option<String> {
    rules.iter().find_map(|rule| ListenRule::parse(rule).err()).map(|error| error.sentence().to_owned())
}

/// Wakes all who wait for a connection at a listening socket; whoever was woken for one may have ended. Nothing else happens to it.
#[napi]
pub fn rouse(socket: i32) {
    uv::line::rouse(socket);
}

/// Gives memory that this process has freed back to the system. The C library keeps what Node's start has freed.
#[napi]
pub fn give_back_memory() {
    uv::give_back_memory();
}
