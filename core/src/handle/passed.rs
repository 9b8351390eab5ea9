//! The mechanism `passed`: the primary accepts, in batches, and sends each connection into a mailbox.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;

use super::{Accepted, Mechanism, MechanismKind};
use crate::mailbox::Connection;
use crate::options::SocketOption;
use crate::sys::poll::{Waited, wait_readable};
use crate::sys::{Sys, sockaddr, socket};

pub(crate) struct Passed {
    socket: OwnedFd,
    /// A connection is known to be there.
    announced: bool,
    /// Connections accepted since the queue was last empty.
    in_a_row: u32,
    /// A unix socket that was shut down says so behind the last.
    shut: bool,
    over: bool,
}

/// From here on a batch looks for its end with accept itself. That an accept finds nothing costs nine times as much as to
/// ask before (1270 ns against 140 on Linux 6.18: the kernel makes the socket's file first).
const ASK_FIRST: u32 = 8;

impl Passed {
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self { socket, announced: false, in_a_row: 0, shut: false, over: false }
    }

    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    fn is_surely_empty(&mut self) -> bool {
        let ask = !std::mem::take(&mut self.announced) && self.in_a_row < ASK_FIRST;
        ask && wait_readable(&[self.socket.as_fd()], Some(Duration::ZERO)) == Ok(Waited::TimedOut)
    }
}

/// What an errno of accept(2) means for the one who accepts.
#[derive(Debug, PartialEq, Eq)]
enum AcceptError {
    Empty,
    /// This connection failed, the next may not.
    Next,
    /// Descriptors or memory are short: the clients wait in the backlog, and so do we.
    Short,
}

fn classify(errno: Errno) -> AcceptError {
    match errno {
        Errno::EAGAIN => AcceptError::Empty,
        Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM => AcceptError::Short,
        one if socket::is_of_one_connection(one) => AcceptError::Next,
        // Nothing that should happen to a listening socket; trying again later is the one thing that loses nothing.
        _ => AcceptError::Short,
    }
}

// Failed connections in a row before the turn goes to others.
const FAILURES_PER_TURN: u32 = 16;

impl Mechanism for Passed {
    fn kind(&self) -> MechanismKind {
        MechanismKind::Passed
    }

    fn granted_socket(&self, _slot: u32) -> Option<BorrowedFd<'_>> {
        None
    }

    fn accepted_socket(&self) -> Option<BorrowedFd<'_>> {
        Some(self.socket.as_fd())
    }

    fn announced(&mut self) {
        self.announced = true;
    }

    fn accept(&mut self) -> Accepted {
        if self.is_surely_empty() {
            self.in_a_row = 0;
            return Accepted::Nothing;
        }
        let accepted = match self.shut {
            true => accept_behind_door(self.socket.as_fd(), &mut self.over),
            false => accept_one(self.socket.as_fd()),
        };
        match accepted {
            Accepted::Connection(_) => self.in_a_row = self.in_a_row.saturating_add(1),
            Accepted::Nothing => self.in_a_row = 0,
            Accepted::Short => {}
        }
        accepted
    }

    fn set_option(&mut self, option: &SocketOption) -> Sys<usize> {
        option.set_on(self.socket.as_fd()).map(|()| 1)
    }

    fn each_socket(&self, see: &mut dyn FnMut(BorrowedFd<'_>)) {
        see(self.socket.as_fd());
    }

    fn accept_last(&mut self) {
        self.shut = true;
    }

    fn has_waiting(&self) -> bool {
        has_waiting(self.socket.as_fd(), self.over)
    }
}

/// Accepts from a socket to which nobody new comes. `over`: it is a unix socket, and empty for good.
pub(super) fn accept_behind_door(listening: BorrowedFd, over: &mut bool) -> Accepted {
    if *over || wait_readable(&[listening], Some(Duration::ZERO)) == Ok(Waited::TimedOut) {
        return Accepted::Nothing;
    }
    match socket::accept(listening, libc::SOCK_CLOEXEC) {
        Ok((socket, peer)) => Accepted::Connection(Connection { socket, peer }),
        // Nobody waits, and it does not listen any more.
        Err(Errno::EINVAL) => {
            *over = true;
            Accepted::Nothing
        }
        Err(errno) if classify(errno) == AcceptError::Empty => {
            // One that does not block says no more than this, and is readable for ever (unix_accept and unix_poll, Linux 6.18).
            *over = sockaddr::local_name(listening).is_ok_and(|name| name.to_inet().is_none());
            Accepted::Nothing
        }
        Err(_) => Accepted::Short,
    }
}

/// Somebody waits in such a socket.
pub(super) fn has_waiting(listening: BorrowedFd, over: bool) -> bool {
    !over && wait_readable(&[listening], Some(Duration::ZERO)) != Ok(Waited::TimedOut)
}

/// One connection that did not fail before it was accepted.
pub(super) fn accept_one(listening: BorrowedFd) -> Accepted {
    for _ in 0..FAILURES_PER_TURN {
        match socket::accept(listening, libc::SOCK_CLOEXEC) {
            Ok((socket, peer)) => return Accepted::Connection(Connection { socket, peer }),
            Err(errno) => match classify(errno) {
                AcceptError::Empty => return Accepted::Nothing,
                AcceptError::Next => {}
                AcceptError::Short => return Accepted::Short,
            },
        }
    }
    // As many failures as this are an injected fault or an attack; a pause keeps the primary from spinning.
    Accepted::Short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_accept_are_told_apart() {
        assert_eq!(classify(Errno::EAGAIN), AcceptError::Empty);
        for errno in [Errno::EMFILE, Errno::ENFILE, Errno::ENOBUFS, Errno::ENOMEM, Errno::EINVAL] {
            assert_eq!(classify(errno), AcceptError::Short);
        }
        for errno in [Errno::ECONNABORTED, Errno::EINTR, Errno::EPROTO, Errno::ENETUNREACH] {
            assert_eq!(classify(errno), AcceptError::Next);
        }
    }
}
