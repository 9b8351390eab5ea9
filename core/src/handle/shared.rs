//! The mechanism `shared`: every worker has the socket itself, and the kernel decides who accepts or receives.
//!
//! What one worker does to the socket, all have. The primary looks each second whether it is still as it was made (`audit`).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::{Accepted, Mechanism, MechanismKind};
use crate::sys::listening::Condition;

pub(crate) struct Shared {
    socket: OwnedFd,
    /// How it was made; `None` for datagrams.
    condition: Option<Condition>,
}

impl Shared {
    /// `ours`: the program has not made it, and will not change its options.
    pub(crate) fn new(socket: OwnedFd, ours: bool) -> Self {
        let condition = Condition::of(socket.as_fd(), ours);
        Self { socket, condition }
    }
}

impl Mechanism for Shared {
    fn kind(&self) -> MechanismKind {
        MechanismKind::Shared
    }

    fn granted_socket(&self, _slot: u32) -> Option<BorrowedFd<'_>> {
        Some(self.socket.as_fd())
    }

    fn accepted_socket(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn accept(&mut self) -> Accepted {
        Accepted::Nothing
    }

    fn audit(&mut self) -> Option<&'static str> {
        self.condition.as_ref()?.repair(self.socket.as_fd())
    }
}
