//! The listening socket beside a mailbox: the slot's own socket, or one that all workers share.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use super::accepting::{AcceptFlags, Accepted, Accepting, SOON, accept_from, begun, is_shortage, nothing_there};
use super::line::Line;
use super::mailbox::Mailbox;
use super::primary_gone;
use crate::error::{Context, Error, Result};
use crate::sys::Sys;
use crate::sys::poll::{Interest, Poll, Waited, wait_readable};
use crate::tally::Part;

/// The listening socket, polled together with the mailbox.
pub(super) struct Beside {
    poll: Arc<Poll>,
    socket: Socket,
    accepts: AtomicU32,
    /// An epoll of the program's tells of the socket.
    is_programs: AtomicBool,
}

/// What comes beside a mailbox.
pub(super) enum Socket {
    /// The slot's own socket.
    Own(OwnedFd),
    /// One that all workers share.
    Shared(Line),
}

/// After this many accepts from a socket that is never empty, the mailbox gets a turn.
const ACCEPTS_PER_LOOK: u32 = 16;

const MAILBOX: u64 = 0;
const SOCKET: u64 = 1;

impl Socket {
    pub(super) fn shared(socket: OwnedFd, part: Option<Part>, waits: bool) -> Self {
        Self::Shared(Line::new(socket, part, waits))
    }
}

impl Beside {
    /// `ends`: shut it down when the primary dies, because a child of this process could keep the address open. `waits`: accept does.
    pub(super) fn new(mailbox: &Mailbox, socket: Socket, ends: bool, waits: bool) -> Result<Self> {
        let poll = Arc::new(Poll::new().context("epoll_create1")?);
        poll.add(mailbox, MAILBOX, Interest::Readable).context("epoll_ctl")?;
        match &socket {
            Socket::Own(own) => poll.add_exclusive(own, SOCKET).context("epoll_ctl")?,
            // A program that waits by itself may wait for our epoll in one of its own. There an exclusive entry would wake everybody,
            // so it comes in line only where the program says where it waits.
            Socket::Shared(line) if line.is_in_turn() && !waits => {}
            Socket::Shared(line) => line.enter(Arc::clone(&poll), SOCKET).context("epoll_ctl")?,
        }
        let beside = Self { poll, socket, accepts: AtomicU32::new(0), is_programs: AtomicBool::new(false) };
        if ends {
            match &beside.socket {
                Socket::Own(own) => primary_gone::wake_at_death(own.as_fd()),
                Socket::Shared(line) => primary_gone::wake_all_at_death(line.socket()),
            }
        }
        Ok(beside)
    }

    fn socket(&self) -> BorrowedFd<'_> {
        match &self.socket {
            Socket::Own(own) => own.as_fd(),
            Socket::Shared(line) => line.socket(),
        }
    }

    /// The socket, if it is the slot's own.
    pub(super) fn own(&self) -> Option<BorrowedFd<'_>> {
        match &self.socket {
            Socket::Own(own) => Some(own.as_fd()),
            Socket::Shared(_) => None,
        }
    }

    /// The line of those who accept in rotation, if this one may stand there.
    pub(super) fn line(&self) -> Option<&Line> {
        self.common().filter(|line| line.is_in_turn())
    }

    /// The same where nobody takes turns.
    fn common(&self) -> Option<&Line> {
        match &self.socket {
            Socket::Shared(line) => Some(line),
            Socket::Own(_) => None,
        }
    }

    /// Connections come from the socket, too.
    fn is_within(&self) -> bool {
        match &self.socket {
            Socket::Shared(line) if line.is_in_turn() => line.is_within(),
            _ => true,
        }
    }

    /// Accepts before this worker has turns: what comes by the mailbox.
    fn accept_before(
        &self,
        line: &Line,
        mailbox: &Mailbox,
        accepting: &Accepting,
        flags: AcceptFlags,
    ) -> Result<Accepted> {
        loop {
            accepting.check_not_closed()?;
            if let Some(taken) = mailbox.take(accepting, flags)? {
                return Ok(taken);
            }
            if mailbox.has_begun() {
                line.begin();
                return Err(begun());
            }
            if !accepting.waits() {
                return Err(nothing_there());
            }
            // Another thread may be the one that enters the line: then our poll tells of the socket.
            accepting.show_idle();
            self.poll.wait(None).context("epoll_wait")?;
        }
    }

    /// An epoll of the program's tells of the socket from here on, in the place of ours.
    pub(super) fn watch(&self, programs: &Arc<Poll>, data: u64) -> Sys<()> {
        match &self.socket {
            Socket::Own(own) => programs.add(own, data, Interest::Readable)?,
            Socket::Shared(line) => line.enter(Arc::clone(programs), data)?,
        }
        self.is_programs.store(true, Ordering::SeqCst);
        self.accepts.store(0, Ordering::Relaxed);
        Ok(())
    }

    /// It does not any more.
    pub(super) fn unwatch(&self, programs: &Poll) {
        self.is_programs.store(false, Ordering::SeqCst);
        match &self.socket {
            Socket::Own(own) => programs.remove(own),
            Socket::Shared(line) => {
                line.leave();
                if !line.is_in_turn() {
                    // If that fails, accept still looks at the socket itself.
                    let _ = line.enter(Arc::clone(&self.poll), SOCKET);
                }
            }
        }
    }

    /// Our own poll tells of the socket.
    fn polls_socket(&self) -> bool {
        !self.is_programs.load(Ordering::SeqCst) || self.own().is_some()
    }

    pub(super) fn accept(&self, mailbox: &Mailbox, accepting: &Accepting, flags: AcceptFlags) -> Result<Accepted> {
        let (mut looked, mut first) = (false, true);
        loop {
            accepting.check_not_closed()?;
            if let Some(line) = self.common().filter(|line| line.waits_for_begin()) {
                return self.accept_before(line, mailbox, accepting, flags);
            }
            if mailbox.is_stopped() {
                return self.accept_last(mailbox, accepting, flags);
            }
            if !self.is_within() {
                return mailbox.accept(accepting, flags);
            }
            let (mut from_mailbox, mut from_socket) = (self.is_turn_of(mailbox), true);
            // Where the program's epoll has told of it, our own does not.
            if accepting.expects_nothing() && (self.polls_socket() || !std::mem::take(&mut first)) {
                (from_mailbox, from_socket) = (false, !self.polls_socket());
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
                Ok(Some(taken)) => {
                    // There may be more, who came before those in the socket.
                    self.accepts.store(0, Ordering::Relaxed);
                    return Ok(taken);
                }
                // Also after a stop: this thread may be the only one that was woken for what waits in the socket.
                outcome if from_socket => {
                    let outcome = outcome.inspect_err(|_| self.leave_if_stopped(mailbox));
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
                outcome => drop(outcome.inspect_err(|_| self.leave_if_stopped(mailbox))?),
            }
        }
    }

    /// Behind the stop, an epoll of the program's tells of no more connections.
    fn leave_if_stopped(&self, mailbox: &Mailbox) {
        if let Socket::Shared(line) = &self.socket
            && mailbox.is_stopped()
        {
            line.leave();
            // The primary does not count on it any more.
            line.take_news();
        }
    }

    /// The mailbox has its turn and is not empty.
    fn is_turn_of(&self, mailbox: &Mailbox) -> bool {
        let turn = self.accepts.fetch_add(1, Ordering::Relaxed).is_multiple_of(ACCEPTS_PER_LOOK);
        turn && wait_readable(&[mailbox.as_fd()], Some(Duration::ZERO)).is_ok_and(|waited| waited != Waited::TimedOut)
    }

    /// After the stop, what waits in the own socket still belongs to this worker.
    fn accept_last(&self, mailbox: &Mailbox, accepting: &Accepting, flags: AcceptFlags) -> Result<Accepted> {
        let last = match &self.socket {
            Socket::Own(_) => self.accept_mine(mailbox, accepting, flags)?,
            Socket::Shared(_) => None,
        };
        self.leave_if_stopped(mailbox);
        last.ok_or_else(Error::shutdown)
    }

    /// Accepts from the socket. EINVAL says that it does not listen any more. The primary shut an own socket down because it was closed
    /// here or because it no longer counts on this worker; another worker shut a shared socket down.
    fn accept_mine(&self, mailbox: &Mailbox, accepting: &Accepting, flags: AcceptFlags) -> Result<Option<Accepted>> {
        match accept_from(self.socket(), flags) {
            Err(error) if error.is(libc::EINVAL) => accepting.check_not_closed()?,
            outcome => {
                match (&self.socket, &outcome) {
                    (Socket::Shared(line), Ok(Some(_))) => line.took(),
                    (Socket::Shared(line), Err(error)) if is_shortage(error) => line.is_short(),
                    _ => {}
                }
                return outcome;
            }
        }
        // This process shut it down itself, for others that have a copy.
        if primary_gone::is_known() && !mailbox.is_stopped() {
            return Err(primary_gone::seen());
        }
        if self.own().is_some() {
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
        primary_gone::forget(self.socket().as_raw_fd());
    }
}
