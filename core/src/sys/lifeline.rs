#![allow(unsafe_code)] // F_SETSIG and F_SETOWN have no safe wrapper.
//! Lifelines: pipes whose last write end closes when the primary is gone, and which make the kernel send a signal then.

use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;

use super::pid::Pid;
use super::{Sys, check};

/// fcntl(2); the libc crate lacks it.
const F_SETSIG: libc::c_int = 10;

/// Makes the kernel send `signal` once the last write end of the pipe is closed. `set_owner` says to whom.
pub(crate) fn arm(reader: BorrowedFd, signal: i32) -> Sys<()> {
    let fd = reader.as_raw_fd();
    // SAFETY: fcntl with integers only.
    check(unsafe { libc::fcntl(fd, F_SETSIG, signal) })?;
    // SAFETY: as above.
    check(unsafe { libc::fcntl(fd, libc::F_SETFL, libc::O_ASYNC | libc::O_NONBLOCK) }).map(|_| ())
}

/// Names the process that an armed lifeline's signal goes to.
pub(crate) fn set_owner(reader: BorrowedFd, pid: Pid) -> Sys<()> {
    // SAFETY: fcntl with integers only.
    check(unsafe { libc::fcntl(reader.as_raw_fd(), libc::F_SETOWN, pid) }).map(|_| ())
}

/// EINVAL if the kernel would not end the lifeline's owner.
pub(crate) fn kills(reader: BorrowedFd) -> Sys<()> {
    const F_GETSIG: libc::c_int = 11;
    let fd = reader.as_raw_fd();
    // SAFETY: fcntl with integers only.
    let signal = check(unsafe { libc::fcntl(fd, F_GETSIG) })?;
    // SAFETY: as above.
    let flags = check(unsafe { libc::fcntl(fd, libc::F_GETFL) })?;
    if signal == libc::SIGKILL && flags & libc::O_ASYNC != 0 { Ok(()) } else { Err(Errno::EINVAL) }
}

/// Changes which signal an armed lifeline sends.
pub(crate) fn set_signal(reader: BorrowedFd, signal: i32) -> Sys<()> {
    // SAFETY: fcntl with integers only.
    check(unsafe { libc::fcntl(reader.as_raw_fd(), F_SETSIG, signal) }).map(|_| ())
}
