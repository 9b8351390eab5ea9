//! A process's number.

/// A process's number.
pub(crate) type Pid = libc::pid_t;

/// Async-signal-safe.
pub(crate) fn own_pid() -> Pid {
    std::process::id() as Pid
}
