//! The native part of the npm package `cluster-rs`: the engine for Node. JavaScript keeps everything that Node's cluster
//! says and does; what is here moves connections.

mod listener;
mod primary;
mod uv;
mod watch;
mod worker;

use napi_derive::napi;

/// An engine's error as JavaScript gets it, with the sentence.
fn refusal(error: cluster_core::Error) -> napi::Error {
    napi::Error::from_reason(format!("{error} (errno {})", -error.code()))
}

/// The version of the engine.
#[napi]
pub fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

/// A socket that is connected to nothing: JavaScript learns from it the class of Node's handles for its kind.
#[napi]
pub fn unconnected_socket(tcp: bool) -> napi::Result<i32> {
    listener::unconnected(tcp)
}
