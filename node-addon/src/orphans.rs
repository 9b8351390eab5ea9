//! Orphans that process 1 of a container inherits, for the command line.

use napi_derive::napi;

/// Reaps a dead child that nobody else waits for: an orphan that PID 1 inherited. True if it existed.
#[napi]
pub fn reap_orphan(pid: i32) -> bool {
    use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
    let asked = (pid > 0).then(|| waitpid(nix::unistd::Pid::from_raw(pid), Some(WaitPidFlag::WNOHANG)));
    asked.is_some_and(|outcome| outcome.is_ok_and(|status| !matches!(status, WaitStatus::StillAlive)))
}
