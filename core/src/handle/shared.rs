//! The mechanism `shared`: every worker has the socket itself, and the kernel decides who accepts or receives.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::{Accepted, Mechanism, MechanismKind};

pub(crate) struct Shared {
    socket: OwnedFd,
}

impl Shared {
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self { socket }
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
}
