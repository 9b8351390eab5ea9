//! The socket on which a worker that leaves hands connections back. Only the worker sends there.
//!
//! To close a descriptor from a worker can take as long as that likes (see `sys::attached`). So each is looked at while it is still in
//! the socket as well: a packet with more than one is left there, and a thread closes what is left.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;

use super::Judged;
use crate::sys::poll::{Interest, Poll};
use crate::sys::{Sys, attached, cmsg, is_short_of_memory, socket};
use crate::token::Token;
use crate::wire::{self, Malformed};

pub(crate) struct Returns {
    worker: u32,
    /// Gone only while it is closed.
    socket: Option<OwnedFd>,
    /// The addresses of its listeners, by these, as they were when it was asked to leave: it may close them before it hands anything back.
    listeners: BTreeMap<u32, u32>,
    /// The poll tells of what comes.
    is_watched: Cell<bool>,
}

/// What comes next.
pub(crate) enum Returned {
    Nothing,
    /// The worker's end is closed in every process.
    End,
    /// Descriptors or memory are short; it stays where it is.
    Short,
    /// What is said to be a connection of this address.
    One(u32, OwnedFd),
}

impl Returns {
    /// With the worker's end.
    pub(crate) fn new(worker: u32, listeners: BTreeMap<u32, u32>, poll: &Poll) -> Sys<(Self, OwnedFd)> {
        let (ours, theirs) = socket::packet_pair()?;
        poll.add(&ours, Token::Returns(worker).pack(), Interest::Readable)?;
        Ok((Self { worker, socket: Some(ours), listeners, is_watched: Cell::new(true) }, theirs))
    }

    pub(crate) fn addresses(&self) -> impl Iterator<Item = u32> {
        self.listeners.values().copied()
    }

    /// Whether the poll is to tell of what comes, from here on.
    pub(crate) fn watch(&self, is_wanted: bool, poll: &Poll) {
        if self.is_watched.replace(is_wanted) != is_wanted {
            self.watch_again(poll);
        }
    }

    /// Tells the poll again.
    pub(crate) fn watch_again(&self, poll: &Poll) {
        let interest = if self.is_watched.get() { Interest::Readable } else { Interest::None };
        if let Some(socket) = &self.socket {
            let _ = poll.modify(socket, Token::Returns(self.worker).pack(), interest);
        }
    }

    /// The next connection. An error is an offence; then nothing more is to be taken.
    pub(crate) fn next(&self) -> Judged<Returned> {
        let Some(socket) = &self.socket else { return Ok(Returned::Nothing) };
        let mut words = [0; wire::HANDBACK_LENGTH + 1];
        // A peek makes descriptors, too, which are not the last for their files.
        let mut peeked = match cmsg::receive(socket.as_fd(), &mut words, 2, libc::MSG_PEEK | libc::MSG_CMSG_CLOEXEC) {
            Err(errno) if is_short_of_memory(errno) => return Ok(Returned::Short),
            Err(Errno::EAGAIN) => return Ok(Returned::Nothing),
            Err(_) => return Ok(Returned::End),
            Ok(peeked) => peeked,
        };
        let (first, second) = (peeked.take_fd(0), peeked.take_fd(1));
        let file = match (first, second, peeked.fds_lost) {
            (None, None, true) => return Ok(Returned::Short),
            // An empty packet looks the same, and ends it as well.
            (None, None, false) if peeked.length == 0 => return Ok(Returned::End),
            (Some(file), None, false) => file,
            (first, second, _) => {
                first.into_iter().chain(second).for_each(attached::close_elsewhere);
                return Err(Malformed("something other than one connection where it hands connections back"));
            }
        };
        let address = match self.address_of(&words[..peeked.length]) {
            Ok(address) => address,
            Err(offence) => {
                attached::close_elsewhere(file);
                return Err(offence);
            }
        };
        // Taken out without its descriptor, which we have.
        match cmsg::receive(socket.as_fd(), &mut words, 0, 0) {
            Ok(_) => Ok(Returned::One(address, file)),
            Err(_) => {
                attached::close_elsewhere(file);
                Ok(Returned::Short)
            }
        }
    }

    fn address_of(&self, words: &[u8]) -> Judged<u32> {
        let listener = wire::listener_of_handback(words)?;
        self.listeners.get(&listener).copied().ok_or(Malformed("a connection of a listener that is not its own"))
    }

    /// Closes it, and what lies in it, without waiting.
    pub(crate) fn close(mut self, poll: &Poll) {
        if let Some(socket) = self.socket.take() {
            poll.remove(&socket);
            attached::close(socket);
        }
    }
}
