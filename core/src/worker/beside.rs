//! The listening socket beside a mailbox: the slot's own socket, or one that all workers share.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::accepting::{AcceptFlags, Accepted, Accepting, SOON, accept_from, nothing_there};
use super::mailbox::Mailbox;
use super::primary_gone;
use crate::error::{Context, Error, Result};
use crate::sys::poll::{Interest, Poll, Waited, wait_readable};

/// The listening socket, polled together with the mailbox.
pub(super) struct Beside {
    poll: Poll,
    socket: OwnedFd,
    /// It is the slot's own socket, not a shared one.
    own: bool,
    accepts: AtomicU32,
}

/// After this many accepts from a socket that is never empty, the mailbox gets a turn.
const ACCEPTS_PER_LOOK: u32 = 16;

const MAILBOX: u64 = 0;
const SOCKET: u64 = 1;

impl Beside {
    /// `ends`: shut it down when the primary dies, because a child of this process could keep the address open.
    pub(super) fn new(mailbox: &Mailbox, socket: OwnedFd, own: bool, ends: bool) -> Result<Self> {
        let poll = Poll::new().context("epoll_create1")?;
        poll.add(mailbox, MAILBOX, Interest::Readable).context("epoll_ctl")?;
        poll.add_exclusive(&socket, SOCKET).context("epoll_ctl")?;
        if ends {
            primary_gone::wake_at_death(socket.as_fd());
        }
        Ok(Self { poll, socket, own, accepts: AtomicU32::new(0) })
    }

    /// The socket, if it is the slot's own.
    pub(super) fn own(&self) -> Option<BorrowedFd<'_>> {
        self.own.then(|| self.socket.as_fd())
    }

    pub(super) fn accept(&self, mailbox: &Mailbox, accepting: &Accepting, flags: AcceptFlags) -> Result<Accepted> {
        let mut looked = false;
        loop {
            accepting.check_not_closed()?;
            if mailbox.is_stopped() {
                return self.accept_last(mailbox, accepting, flags);
            }
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
            // The mailbox comes first, so that a busy socket does not hide the stop.
            let taken = if from_mailbox { mailbox.take(accepting, flags) } else { Ok(None) };
            match taken {
                Ok(Some(taken)) => return Ok(taken),
                // Also after a stop: this thread may be the only one that was woken for what waits in the socket.
                outcome if from_socket => {
                    if let Some(taken) = self.accept_mine(mailbox, accepting, flags)? {
                        return Ok(taken);
                    }
                    accepting.found_nothing();
                    outcome?;
                    // A socket that was shut down stays readable; looking again would not end.
                    if !accepting.waits() && std::mem::replace(&mut looked, true) {
                        return Err(nothing_there());
                    }
                }
                outcome => drop(outcome?),
            }
        }
    }

    /// The mailbox has its turn and is not empty.
    fn is_turn_of(&self, mailbox: &Mailbox) -> bool {
        let turn = self.accepts.fetch_add(1, Ordering::Relaxed).is_multiple_of(ACCEPTS_PER_LOOK);
        turn && wait_readable(&[mailbox.as_fd()], Some(Duration::ZERO)).is_ok_and(|waited| waited != Waited::TimedOut)
    }

    /// After the stop, what waits in the own socket still belongs to this worker.
    fn accept_last(&self, mailbox: &Mailbox, accepting: &Accepting, flags: AcceptFlags) -> Result<Accepted> {
        let last = if self.own { self.accept_mine(mailbox, accepting, flags)? } else { None };
        last.ok_or_else(Error::shutdown)
    }

    /// Accepts from the socket. EINVAL says that it does not listen any more. The primary shut an own socket down because it was closed
    /// here or because it no longer counts on this worker; another worker shut a shared socket down.
    fn accept_mine(&self, mailbox: &Mailbox, accepting: &Accepting, flags: AcceptFlags) -> Result<Option<Accepted>> {
        match accept_from(self.socket.as_fd(), flags) {
            Err(error) if error.is(libc::EINVAL) => accepting.check_not_closed()?,
            outcome => return outcome,
        }
        // This process shut it down itself, for others that have a copy.
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
