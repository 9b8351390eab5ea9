//! What the mechanisms have in common.

use std::os::fd::BorrowedFd;

use super::accepting::Accepted;
use super::own_socket::OwnSocket;
use super::selector::Selector;
use crate::options::SocketOption;
use crate::settings::MechanismKind;
use crate::sys::Sys;

/// The way of one address's connections to its workers: the part of a handle in which the mechanisms differ.
pub(crate) trait Route: Send {
    fn kind(&self) -> MechanismKind;
    /// The socket that goes to the worker of a slot beside its mailbox, where that is no `OwnSocket` of the member's.
    fn worker_socket(&self, _slot: u32) -> Option<BorrowedFd<'_>> {
        None
    }
    /// The socket that the primary accepts from.
    fn primary_socket(&self) -> Option<BorrowedFd<'_>> {
        None
    }
    /// The page that goes to a worker with that socket.
    fn worker_page(&self) -> Option<BorrowedFd<'_>> {
        None
    }
    /// The primary waits for connections in one line with workers: it is watched for exclusively.
    fn is_in_line(&self) -> bool {
        false
    }
    /// It has taken its part, and is to stand at the end of that line.
    fn take_had_its_part(&mut self) -> bool {
        false
    }
    /// The kernel says that a connection is there.
    fn announced(&mut self) {}
    /// One connection from the kernel, without waiting.
    fn accept(&mut self) -> Accepted {
        Accepted::Nothing
    }

    /// A slot gets a member. Its own socket, where the mechanism leaves that to the member; it gets nothing before `seat`.
    fn enter(&mut self, _slot: u32) -> Sys<Option<OwnSocket>> {
        Ok(None)
    }
    /// What is begun with a slot goes to this socket from here on.
    fn seat(&mut self, _slot: u32, _own: &OwnSocket) -> Sys<()> {
        Ok(())
    }
    /// The slot has no member any more. `worker`: whose it was.
    fn leave(&mut self, _slot: u32, _worker: u32) {}
    /// Shuts a slot's own socket down; what waits in it goes to others. `keep`: the slot has no other, and its next member may need one.
    fn shut(&mut self, _slot: u32, _own: OwnSocket, _keep: bool) {}
    /// Who is to get connections from now on: the slot, or `None` for a member without an own socket.
    fn set_turns(&mut self, _turns: &mut dyn Iterator<Item = Option<u32>>) {}
    /// Looks whether the sockets that workers have or had are as they were made, and repairs them. What somebody had done.
    fn audit(&mut self) -> Found {
        Found::default()
    }
    /// Sockets that workers have, too, and that are not `OwnSocket`s of members: what comes to one is a reason to audit.
    fn each_common(&self, _see: &mut dyn FnMut(BorrowedFd<'_>)) {}
    /// There is something to audit.
    fn is_common(&self) -> bool {
        false
    }
    /// `begun` says whether anybody came.
    fn counts(&self) -> bool {
        false
    }
    /// The primary cannot accept from its socket for now.
    fn is_spoiled(&self) -> bool {
        false
    }
    /// Somebody waits to be accepted by those in line.
    fn has_unroused(&self) -> bool {
        false
    }
    /// Wakes whoever waits in line.
    fn rouse(&self) {}
    /// There are sockets that a worker had.
    fn keeps_former(&self) -> bool {
        false
    }
    /// Connections begun with own sockets in all, which the primary does not see.
    fn begun(&self) -> u64 {
        0
    }
    /// Connections begun with a slot's own socket.
    fn assigned(&self, _slot: u32) -> u64 {
        0
    }
    /// Sets an option on its sockets (those of members it leaves alone), and on those that it makes from here on. The first that is
    /// asked is one that no worker has; where that refuses it, nothing has changed. How many sockets there were.
    fn set_option(&mut self, option: &SocketOption) -> Sys<usize>;
    /// Every listening socket that is not a member's.
    fn each_socket(&self, _see: &mut dyn FnMut(BorrowedFd<'_>)) {}
    /// The door is shut behind those who wait: from here on the primary accepts, whoever else does.
    fn accept_last(&mut self) {}
    /// Somebody waits in the kernel's queue that the primary accepts from.
    fn has_waiting(&self) -> bool {
        false
    }
    /// The address is closed, and no slot has a socket: what it took a privilege to make, for the next one.
    fn close(self: Box<Self>) -> Option<Selector> {
        None
    }
    /// The most descriptors it may have, without those of its members.
    #[cfg(any(test, feature = "fuzzing"))]
    fn descriptors_most(&self) -> usize {
        1
    }
}

/// What a route's audit found.
#[derive(Default)]
pub(crate) struct Found {
    /// What somebody had done to a socket that all have.
    pub(crate) spoiled: Option<&'static str>,
    /// Slots whose worker had taken what belongs to all.
    pub(crate) thieves: Vec<u32>,
    /// Workers whose former socket was made to receive again.
    pub(crate) risen: Vec<u32>,
}
