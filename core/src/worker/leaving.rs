//! Whether this worker was asked to leave.
//!
//! The request comes twice: on the channel, between the program's messages, and on the grants socket. Nobody takes it out of the
//! latter, so it stays readable for every thread that wants to know.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use super::primary_gone;
use crate::error::Result;
use crate::sys::cmsg;
use crate::sys::poll::is_hung_up;
use crate::wire;

/// The grants socket, and whether the request was seen.
pub(crate) struct Leaving {
    grants: OwnedFd,
    asked: AtomicBool,
}

impl Leaving {
    pub(super) fn new(grants: OwnedFd) -> Self {
        Self { grants, asked: AtomicBool::new(false) }
    }

    /// Readable once the worker was asked to leave (and for a moment whenever a listen is answered).
    pub(super) fn grants(&self) -> BorrowedFd<'_> {
        self.grants.as_fd()
    }

    /// Takes note of a request that came on the channel.
    pub(super) fn ask(&self) {
        self.asked.store(true, Ordering::SeqCst);
    }

    pub(super) fn is_asked(&self) -> bool {
        self.asked.load(Ordering::SeqCst) || {
            let mut head = [0; 8];
            let asked = cmsg::receive(self.grants.as_fd(), &mut head, 0, libc::MSG_PEEK)
                .is_ok_and(|received| received.length == head.len() && head == wire::DISCONNECT);
            if asked {
                self.ask();
            }
            asked
        }
    }

    /// An error once the primary is gone.
    pub(super) fn check_primary(&self) -> Result<()> {
        if is_hung_up(self.grants.as_fd()) { Err(primary_gone::seen()) } else { Ok(()) }
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        primary_gone::forget(self.grants.as_raw_fd());
    }
}
