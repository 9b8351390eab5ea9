#![allow(unsafe_code)] // Descriptors come from the kernel as numbers.
//! Taking over what the kernel has just made.
//!
//! Nothing of ours sits on 0, 1 or 2. Where a program was started with these closed, its own open(2) and dup2(2) decide what they are,
//! and its messages go there.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use super::{Sys, check};

/// The first number that is not standard input, output or error.
const FIRST: RawFd = 3;

/// A descriptor that the kernel has just made, close-on-exec, for us alone.
pub(super) fn take(number: RawFd) -> Sys<OwnedFd> {
    // SAFETY: the caller has it from the kernel, and nobody else knows it.
    above_standard(unsafe { OwnedFd::from_raw_fd(number) })
}

/// The same for one that is owned already.
pub(super) fn above_standard(fd: OwnedFd) -> Sys<OwnedFd> {
    if fd.as_raw_fd() >= FIRST { Ok(fd) } else { moved(&fd, true) }
}

/// A connection, which is not to be lost: where no other number is free, it stays where it is.
pub(super) fn connection(fd: OwnedFd, close_on_exec: bool) -> OwnedFd {
    if fd.as_raw_fd() >= FIRST {
        return fd;
    }
    moved(&fd, close_on_exec).unwrap_or(fd)
}

/// A descriptor of ours under none of these numbers, which will be something else in a child.
pub(crate) fn clear_of(numbers: &[RawFd], mut fd: OwnedFd) -> Sys<OwnedFd> {
    // Each keeps its number until a better one is found.
    let mut held = Vec::new();
    while numbers.contains(&fd.as_raw_fd()) {
        let next = moved(&fd, true)?;
        held.push(std::mem::replace(&mut fd, next));
    }
    Ok(fd)
}

fn moved(fd: &OwnedFd, close_on_exec: bool) -> Sys<OwnedFd> {
    let command = if close_on_exec { libc::F_DUPFD_CLOEXEC } else { libc::F_DUPFD };
    // SAFETY: fcntl with integers only.
    let higher = check(unsafe { libc::fcntl(fd.as_raw_fd(), command, FIRST) })?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(higher) })
}
