//! System calls, and all `unsafe` code of this crate. Everything here is a thin, owning wrapper: descriptors come out as `OwnedFd` and
//! failures as the bare errno. No policy is decided here.

pub(crate) mod attached;
pub(crate) mod bpf;
pub(crate) mod child;
mod close_range;
pub(crate) mod cmsg;
pub(crate) mod credentials;
pub(crate) mod descriptor;
pub(crate) mod detached;
pub(crate) mod door;
pub(crate) mod fork_guard;
pub(crate) mod lifeline;
pub(crate) mod listening;
pub(crate) mod memory;
pub mod panics;
pub(crate) mod passing;
pub(crate) mod pid;
pub(crate) mod poll;
pub(crate) mod process;
pub(crate) mod reload_signals;
pub(crate) mod room;
pub(crate) mod signal;
pub(crate) mod sockaddr;
pub(crate) mod socket;
pub(crate) mod spawn;
mod step;
pub(crate) mod unix_path;
pub(crate) mod watch_thread;
pub(crate) mod worker_signals;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::errno::Errno;

/// A system call's outcome.
pub(crate) type Sys<T> = Result<T, Errno>;

/// Turns a libc return value into a result.
fn check<T: Copy + PartialEq + From<i8>>(value: T) -> Sys<T> {
    if value == T::from(-1) { Err(Errno::last()) } else { Ok(value) }
}

/// Locks a mutex, poisoned or not: what the library's locks guard is valid even if a thread panics while it has one.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    panics::point();
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// True if memory is short, which passes.
pub(crate) fn is_short_of_memory(errno: Errno) -> bool {
    matches!(errno, Errno::ENOMEM | Errno::ENOBUFS)
}

/// Sleeps longer after each failure: from 1 ms, doubling up to 100 ms.
pub(crate) fn pause_after(failures: u32) {
    const LONGEST: Duration = Duration::from_millis(100);
    let pause = Duration::from_millis(1 << failures.min(7));
    std::thread::sleep(pause.min(LONGEST));
}

/// Repeats a call that fails because memory is short, with pauses, for a quarter of a second in all. Only for workers: the primary
/// never waits (rule R5).
pub(crate) fn patiently<T>(mut call: impl FnMut() -> Sys<T>) -> Sys<T> {
    const TRIES: u32 = 8;
    for failures in 0..TRIES {
        match call() {
            Err(errno) if is_short_of_memory(errno) => pause_after(failures),
            outcome => return outcome,
        }
    }
    call()
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
