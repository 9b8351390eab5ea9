//! accept(2) without waiting, and what its errors mean.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use nix::errno::Errno;

use crate::mailbox::Connection;
use crate::sys::poll::{Waited, wait_readable};
use crate::sys::{sockaddr, socket};

/// What the primary got when it wanted a connection.
pub(crate) enum Accepted {
    Connection(Connection),
    Nothing,
    /// Descriptors or memory are short; try again after a pause.
    Short,
}

impl Accepted {
    /// What the next source has, where this one had nothing.
    pub(crate) fn or(self, next: impl FnOnce() -> Self) -> Self {
        if matches!(self, Self::Nothing) { next() } else { self }
    }

    /// Of the first source that has something.
    pub(crate) fn first(mut sources: impl Iterator<Item = Self>) -> Self {
        sources.find(|accepted| !matches!(accepted, Self::Nothing)).unwrap_or(Self::Nothing)
    }

    /// For counters: 1 for a connection.
    pub(crate) fn count(&self) -> u64 {
        matches!(self, Self::Connection(_)).into()
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

/// Somebody waits in a socket that listens.
pub(super) fn is_left_waiting(listening: BorrowedFd) -> bool {
    wait_readable(&[listening], Some(Duration::ZERO)) == Ok(Waited::Ready)
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
