//! Whether this worker was asked to leave, and where it hands back the connections that it has.
//!
//! The request comes twice: on the channel, between the program's messages, and on the grants socket. Nobody takes it out of the
//! latter, so it stays readable for every thread that wants to know. There the socket for the connections may come before it, and stays
//! as well: a peek is enough to have it.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use once_cell::sync::OnceCell;

use super::primary_gone;
use crate::error::{Error, Result};
use crate::sys::poll::is_hung_up;
use crate::sys::{cmsg, is_short_of_memory};
use crate::wire;

/// The grants socket, and whether the request was seen.
pub(crate) struct Leaving {
    grants: OwnedFd,
    asked: AtomicBool,
    returns: OnceCell<OwnedFd>,
}

pub(super) fn nobody_takes_any() -> Error {
    let sentence = "the primary takes no connections back from this worker: it was not asked to leave, or nobody else serves the address";
    Error::new(-libc::EOPNOTSUPP, sentence)
}

impl Leaving {
    pub(super) fn new(grants: OwnedFd) -> Self {
        Self { grants, asked: AtomicBool::new(false), returns: OnceCell::new() }
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
            let asked = cmsg::receive(self.grants.as_fd(), &mut head, 0, libc::MSG_PEEK).is_ok_and(|received| {
                received.length == head.len() && (head == wire::DISCONNECT || head == wire::RETURNS)
            });
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

    /// Where connections may be handed back.
    fn returns(&self) -> Result<&OwnedFd> {
        self.returns.get_or_try_init(|| {
            let (mut head, flags) = ([0; 8], libc::MSG_PEEK | libc::MSG_CMSG_CLOEXEC);
            let mut peeked = match cmsg::receive(self.grants.as_fd(), &mut head, 1, flags) {
                Err(Errno::EAGAIN) => return Err(nobody_takes_any()),
                Err(errno) => return Err(Error::os("looking for where to hand connections back", errno)),
                Ok(peeked) => peeked,
            };
            if peeked.length != head.len() || head != wire::RETURNS {
                return Err(nobody_takes_any());
            }
            peeked.take_fd(0).ok_or_else(|| Error::os("receiving where to hand connections back", Errno::EMFILE))
        })
    }

    /// Connections may be handed back.
    pub(super) fn takes_returns(&self) -> bool {
        self.returns().is_ok()
    }

    /// Hands a connection of this listener back. What it is has been checked.
    pub(super) fn hand_back(&self, listener: u32, connection: BorrowedFd) -> Result<()> {
        primary_gone::check()?;
        match cmsg::send(self.returns()?.as_fd(), [&wire::handback(listener), b""], &[connection]) {
            Ok(()) => Ok(()),
            Err(errno) if matches!(errno, Errno::EAGAIN | Errno::ETOOMANYREFS) || is_short_of_memory(errno) => {
                Err(Error::new(-libc::EAGAIN, "no other worker has room for it now"))
            }
            Err(Errno::EPIPE | Errno::ECONNRESET | Errno::ENOTCONN) => Err(nobody_takes_any()),
            Err(errno) => Err(Error::os("handing a connection back", errno)),
        }
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        primary_gone::forget(self.grants.as_raw_fd());
    }
}
