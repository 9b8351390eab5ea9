//! The listening socket beside a mailbox: one that is of this worker's slot alone, or one that all workers share.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::accepting::{AcceptFlags, Accepted, Accepting, SOON, accept_from, nothing_there};
use super::mailbox::Mailbox;
use super::primary_gone;
use crate::error::{Context, Error, Result};
use crate::sys::descriptor;
use crate::sys::poll::{Interest, Poll, Waited, wait_readable};

/// The socket, polled together with the mailbox.
pub(super) struct Beside {
    poll: Poll,
    socket: OwnedFd,
    /// The socket is of this worker's slot alone, not shared with others.
    own: bool,
    accepts: AtomicU32,
}

/// After how many accepts from a socket that is never empty the mailbox is looked into.
const ACCEPTS_PER_LOOK: u32 = 16;

const MAILBOX: u64 = 0;
const SOCKET: u64 = 1;

impl Beside {
    /// `ends`: it is shut down when the primary dies, since a child of this process's own would keep the address open.
    pub(super) fn new(mailbox: &Mailbox, socket: OwnedFd, own: bool, ends: bool) -> Result<Self> {
        let poll = Poll::new().context("epoll_create1")?;
        poll.add(mailbox, MAILBOX, Interest::Readable).context("epoll_ctl")?;
        poll.add_exclusive(&socket, SOCKET).context("epoll_ctl")?;
        if ends {
            primary_gone::wake_at_death(socket.as_fd());
        }
        Ok(Self { poll, socket, own, accepts: AtomicU32::new(0) })
    }

    /// The socket, if it is of this worker's slot alone.
    pub(super) fn own(&self) -> Option<BorrowedFd<'_>> {
        self.own.then(|| self.socket.as_fd())
    }

    /// A copy of the socket for a program that accepts from it in a way of its own, and one that stays here.
    pub(super) fn hand_out(&self) -> Result<(OwnedFd, EndsWithUs)> {
        let copy = || descriptor::duplicate(self.socket.as_fd()).context("duplicating a listening socket");
        let (kept, given) = (copy()?, copy()?);
        Ok((given, EndsWithUs::new(kept)))
    }

    pub(super) fn accept(&self, mailbox: &Mailbox, accepting: &Accepting, flags: AcceptFlags) -> Result<Accepted> {
        let mut looked = false;
        loop {
            accepting.check_not_closed()?;
            if mailbox.is_stopped() {
                return self.accept_last(mailbox, accepting, flags);
            }
            // As with the mailbox alone, a look that finds nothing costs more than to ask first.
            let (mut from_mailbox, mut from_socket) = (self.is_turn_of(mailbox), true);
            if accepting.expects_nothing() {
                (from_mailbox, from_socket) = (false, false);
                if accepting.waits() {
                    accepting.show_idle();
                }
                let ready = self.poll.wait((!accepting.waits()).then_some(Duration::ZERO)).context("epoll_wait")?;
                for token in ready.tokens() {
                    from_mailbox |= token == MAILBOX;
                    from_socket |= token == SOCKET;
                }
                if !from_mailbox && !from_socket && !accepting.waits() {
                    return Err(nothing_there());
                }
            }
            // The mailbox first, so that a busy socket does not hide the stop.
            let taken = if from_mailbox { mailbox.take(accepting, flags) } else { Ok(None) };
            match taken {
                Ok(Some(taken)) => return Ok(taken),
                // Even behind a stop: this thread may be the only one that was woken for what waits in the socket.
                outcome if from_socket => {
                    if let Some(taken) = self.accept_mine(mailbox, accepting, flags)? {
                        return Ok(taken);
                    }
                    accepting.found_nothing();
                    outcome?;
                    // A socket that was shut down stays readable, and is no reason to go on looking.
                    if !accepting.waits() && std::mem::replace(&mut looked, true) {
                        return Err(nothing_there());
                    }
                }
                outcome => drop(outcome?),
            }
        }
    }

    /// The mailbox's turn has come, and it is not empty.
    fn is_turn_of(&self, mailbox: &Mailbox) -> bool {
        let turn = self.accepts.fetch_add(1, Ordering::Relaxed).is_multiple_of(ACCEPTS_PER_LOOK);
        turn && wait_readable(&[mailbox.as_fd()], Some(Duration::ZERO)).is_ok_and(|waited| waited != Waited::TimedOut)
    }

    /// Behind the stop: what waits in a socket of this worker's own is still its own.
    fn accept_last(&self, mailbox: &Mailbox, accepting: &Accepting, flags: AcceptFlags) -> Result<Accepted> {
        let last = if self.own { self.accept_mine(mailbox, accepting, flags)? } else { None };
        last.ok_or_else(Error::shutdown)
    }

    /// A socket of this worker's own that does not listen any more was taken away by the primary: because it was closed here, or
    /// because this worker does not count as one any more. One that all workers share was shut down by another of them.
    fn accept_mine(&self, mailbox: &Mailbox, accepting: &Accepting, flags: AcceptFlags) -> Result<Option<Accepted>> {
        match accept_from(self.socket.as_fd(), flags) {
            Err(error) if error.is(libc::EINVAL) => accepting.check_not_closed()?,
            outcome => return outcome,
        }
        // Then it was shut down here, for the sake of others who have it.
        if primary_gone::is_known() && !mailbox.is_stopped() {
            return Err(primary_gone::seen());
        }
        if self.own {
            return Err(Error::shutdown());
        }
        if accepting.waits() {
            wait_readable(&[mailbox.as_fd()], Some(SOON)).context("poll of a mailbox")?;
        }
        Ok(None)
    }
}

impl AsFd for Beside {
    /// Readable when there is something in the socket or in the mailbox.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.poll.as_fd()
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        primary_gone::forget(self.socket.as_raw_fd());
    }
}

/// A copy of a listening socket, by which it is shut down at the end of a process that has lost its primary.
pub(super) struct EndsWithUs(Mutex<Option<OwnedFd>>);

impl EndsWithUs {
    fn new(socket: OwnedFd) -> Self {
        primary_gone::end_with_us(socket.as_fd());
        Self(Mutex::new(Some(socket)))
    }

    pub(super) fn close(&self) {
        if let Some(socket) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
            primary_gone::spare(socket.as_raw_fd());
        }
    }
}

impl Drop for EndsWithUs {
    fn drop(&mut self) {
        self.close();
    }
}
