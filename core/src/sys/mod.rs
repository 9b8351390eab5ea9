//! The only folder with libc and `unsafe`. Everything here is a thin, owning wrapper of system calls: descriptors
//! come out as `OwnedFd`, failures as the bare errno, and no policy is decided.

pub(crate) mod bpf;
pub(crate) mod cmsg;
pub(crate) mod credentials;
pub(crate) mod fork_guard;
pub(crate) mod memory;
pub mod panics;
pub(crate) mod poll;
pub(crate) mod process;
pub(crate) mod signal;
pub(crate) mod sockaddr;
pub(crate) mod socket;
pub(crate) mod spawn;
pub(crate) mod unix_path;
pub(crate) mod watch_thread;

use nix::errno::Errno;

/// A system call's outcome.
pub(crate) type Sys<T> = Result<T, Errno>;

/// Turns a libc return value into a result.
fn check<T: Copy + PartialEq + From<i8>>(value: T) -> Sys<T> {
    if value == T::from(-1) { Err(Errno::last()) } else { Ok(value) }
}

/// Repeats a call that a signal interrupted. Never wrap close(2) in it.
pub(crate) fn retry<T>(mut call: impl FnMut() -> Sys<T>) -> Sys<T> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            outcome => return outcome,
        }
    }
}
