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

/// What `accept` says when no connection waits.
#[napi]
pub const EAGAIN: i32 = libc::EAGAIN;
/// What it says when this process has no descriptor left.
#[napi]
pub const EMFILE: i32 = libc::EMFILE;
/// What it says when the system has none left.
#[napi]
pub const ENFILE: i32 = libc::ENFILE;

/// The version of the engine.
#[napi]
pub fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

/// Takes the exit status of a dead child that nobody else waits for: an orphan that PID 1 inherited. True if it was there.
#[napi]
pub fn reap_orphan(pid: i32) -> bool {
    use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
    let asked = (pid > 0).then(|| waitpid(nix::unistd::Pid::from_raw(pid), Some(WaitPidFlag::WNOHANG)));
    asked.is_some_and(|outcome| outcome.is_ok_and(|status| !matches!(status, WaitStatus::StillAlive)))
}

/// A socket that is connected to nothing: JavaScript learns from it the class of Node's handles for its kind.
#[napi]
pub fn unconnected_socket(tcp: bool) -> napi::Result<i32> {
    listener::unconnected(tcp)
}
