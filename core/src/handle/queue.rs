//! A slot's own queue in the kernel: a listening socket from which the slot's worker accepts, and the primary in its stead.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::Accepted;
use super::passed::accept_one;
use crate::sys::poll::{Interest, Poll};
use crate::sys::socket;
use crate::token::Token;

pub(crate) struct Queue {
    socket: OwnedFd,
    /// What the poll was last told; `None`: it does not know the socket.
    watched: Option<(Token, Interest)>,
}

impl Queue {
    pub(super) fn into_socket(self) -> OwnedFd {
        self.socket
    }

    pub(super) fn new(socket: OwnedFd) -> Self {
        Self { socket, watched: None }
    }

    /// What the slot's worker gets a copy of.
    pub(crate) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Connections that nobody has accepted; `None` when somebody has shut the socket down.
    pub(super) fn waiting(&self) -> Option<u32> {
        socket::listening_backlog(self.socket.as_fd()).unwrap_or(None)
    }

    /// Accepts in the worker's stead.
    pub(super) fn take(&self) -> Accepted {
        // The flag belongs to the open file, which the worker has too, and the primary must never wait (rule R5).
        if socket::set_nonblocking(self.socket.as_fd()).is_err() {
            return Accepted::Short;
        }
        accept_one(self.socket.as_fd())
    }

    /// Watches it, under a token that says whose it is.
    pub(super) fn watch(&mut self, poll: &Poll, token: Token, interest: Interest) {
        let told = match self.watched {
            None => poll.add(&self.socket, token.pack(), interest),
            Some(before) if before == (token, interest) => return,
            Some(_) => poll.modify(&self.socket, token.pack(), interest),
        };
        if told.is_ok() {
            self.watched = Some((token, interest));
        }
    }

    /// An event has come; one that comes once does not come again.
    pub(super) fn told(&mut self) {
        if let Some((_, interest @ Interest::ReadableOnce)) = &mut self.watched {
            *interest = Interest::None;
        }
    }

    /// Must come before it is dropped: the worker may have a copy.
    pub(super) fn forget(&mut self, poll: &Poll) {
        if self.watched.take().is_some() {
            poll.remove(&self.socket);
        }
    }
}
