//! The mechanism `shared`: every worker has the socket itself, and the kernel decides who accepts or receives.
//!
//! What one worker does to the socket, all have. The primary looks each second whether it is still as it was made (`audit`).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::accepting::{Accepted, accept_behind_door, has_waiting};
use super::route::{Found, Route};
use crate::bind::{self, Shape};
use crate::options::SocketOption;
use crate::settings::MechanismKind;
use crate::sys::listening::Condition;
use crate::sys::sockaddr::SockAddr;
use crate::sys::{Sys, descriptor};

pub(crate) struct Shared {
    socket: OwnedFd,
    name: SockAddr,
    datagram: bool,
    shape: Shape,
    /// How it was made; `None` for datagrams.
    condition: Option<Condition>,
    /// The primary accepts, too, because nobody new comes; and nobody is left.
    shut: bool,
    over: bool,
}

impl Shared {
    /// `ours`: the program has not made it, and will not change its options.
    pub(crate) fn new(socket: OwnedFd, name: SockAddr, datagram: bool, shape: Shape, ours: bool) -> Self {
        let condition = Condition::of(socket.as_fd(), ours);
        Self { socket, name, datagram, shape, condition, shut: false, over: false }
    }
}

impl Shared {
    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Route for Shared {
    fn kind(&self) -> MechanismKind {
        MechanismKind::Shared
    }

    fn worker_socket(&self, _slot: u32) -> Option<BorrowedFd<'_>> {
        Some(self.socket.as_fd())
    }

    fn accept(&mut self) -> Accepted {
        if !self.shut {
            return Accepted::Nothing;
        }
        // The open file is the workers', too, and one may have made it wait. There are no audits any more.
        if descriptor::is_nonblocking(self.socket.as_fd()) != Ok(true) {
            let _ = descriptor::set_nonblocking(self.socket.as_fd());
            return Accepted::Nothing;
        }
        accept_behind_door(self.socket.as_fd(), &mut self.over)
    }

    fn set_option(&mut self, option: &SocketOption) -> Sys<usize> {
        let replica = bind::replica(&self.name, self.datagram, &self.shape)?;
        let set = || option.set_on(replica.as_fd());
        match &mut self.condition {
            Some(condition) => condition.follow(replica.as_fd(), set)?,
            None => set()?,
        }
        self.shape.follow(option);
        // Where a worker has made it one that takes no options, the next audit does it.
        let _ = option.set_on(self.socket.as_fd());
        Ok(1)
    }

    fn each_socket(&self, see: &mut dyn FnMut(BorrowedFd<'_>)) {
        see(self.socket.as_fd());
    }

    fn accept_last(&mut self) {
        self.shut = true;
    }

    fn has_waiting(&self) -> bool {
        // Nobody accepts datagrams.
        self.shut && self.condition.is_some() && has_waiting(self.socket.as_fd(), self.over)
    }

    fn each_common(&self, see: &mut dyn FnMut(BorrowedFd<'_>)) {
        see(self.socket.as_fd());
    }

    fn is_common(&self) -> bool {
        // Of datagram sockets nothing is known.
        self.condition.is_some()
    }

    fn audit(&mut self) -> Found {
        let spoiled = self.condition.as_ref().and_then(|condition| condition.repair(self.socket.as_fd()));
        Found { spoiled, ..Found::default() }
    }
}
