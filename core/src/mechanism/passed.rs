//! The mechanism `passed`: the primary accepts, in batches, and sends each connection into a mailbox.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use super::accepting::{Accepted, accept_behind_door, accept_one, has_waiting};
use super::route::Route;
use crate::options::SocketOption;
use crate::settings::MechanismKind;
use crate::sys::Sys;
use crate::sys::poll::{Waited, wait_readable};

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

    pub(crate) fn into_socket(self) -> OwnedFd {
        self.socket
    }

    fn is_surely_empty(&mut self) -> bool {
        let ask = !std::mem::take(&mut self.announced) && self.in_a_row < ASK_FIRST;
        ask && wait_readable(&[self.socket.as_fd()], Some(Duration::ZERO)) == Ok(Waited::TimedOut)
    }
}

impl Route for Passed {
    fn kind(&self) -> MechanismKind {
        MechanismKind::Passed
    }

    fn primary_socket(&self) -> Option<BorrowedFd<'_>> {
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
