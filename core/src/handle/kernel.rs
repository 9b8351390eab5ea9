//! The mechanism `kernel`: each slot has a listening socket of its own on the address, and a program in the kernel gives
//! each new connection to one of them.
//!
//! The first socket stays the primary's: the entrance. It takes what comes while no slot has a turn, and the turns of members
//! that have no socket of their own; the primary passes these on as in the mechanism `passed`. Every slot's socket is open
//! here too, so that its queue outlives its worker (rule R1): when that ends, the kernel moves the queue to the others.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;

use super::selector::{Choice, ENTRANCE, SLOTS, Selector};
use super::{Accepted, Mechanism, MechanismKind, Passed, Queue};
use crate::bind::{self, Shape};
use crate::sys::bpf::lock_filter;
use crate::sys::sockaddr::SockAddr;
use crate::sys::{Sys, socket};

pub(crate) struct Kernel {
    entrance: Passed,
    name: SockAddr,
    shape: Shape,
    selector: Selector,
    /// The sockets of slots without a member. They do not listen.
    vacant: BTreeMap<u32, OwnedFd>,
    turns: Vec<u16>,
    /// The highest slot there has been.
    last_slot: u32,
}

impl Kernel {
    /// What an address needs of the kernel, made ahead: it takes a privilege that the program may give up later.
    pub(crate) fn prepare(choice: Choice) -> Sys<Selector> {
        Selector::load(choice)
    }

    /// From a socket that listens alone on its address, as `passed` has it. Given back where the kernel refuses.
    pub(crate) fn new(
        entrance: Passed,
        name: SockAddr,
        shape: Shape,
        selector: Selector,
    ) -> Result<Self, (Passed, Errno)> {
        // Only now, so that an address that is taken is found taken.
        match socket::set_reuse_port(entrance.socket()) {
            Ok(()) => {
                Ok(Self { entrance, name, shape, selector, vacant: BTreeMap::new(), turns: Vec::new(), last_slot: 0 })
            }
            Err(errno) => Err((entrance, errno)),
        }
    }
}

/// A socket that was somebody else's and listens no more, as it is needed for the next.
fn renewed(socket: OwnedFd, shape: &Shape) -> Sys<OwnedFd> {
    socket::set_nonblocking(socket.as_fd())?;
    socket::set_reuse_port(socket.as_fd())?;
    shape.give_options(socket.as_fd()).map_err(|(_, errno)| errno)?;
    socket::listen(socket.as_fd(), bind::backlog(shape.backlog))?;
    Ok(socket)
}

impl Mechanism for Kernel {
    fn kind(&self) -> MechanismKind {
        MechanismKind::Kernel
    }

    fn granted_socket(&self, _slot: u32) -> Option<BorrowedFd<'_>> {
        None
    }

    fn accepted_socket(&self) -> Option<BorrowedFd<'_>> {
        self.entrance.accepted_socket()
    }

    fn announced(&mut self) {
        self.entrance.announced();
    }

    fn accept(&mut self) -> Accepted {
        self.entrance.accept()
    }

    fn seat(&mut self, slot: u32) -> Sys<Option<Queue>> {
        if slot >= SLOTS {
            return Ok(None);
        }
        // A process that a former worker left behind may still have the old one.
        let socket =
            match (bind::beside(self.entrance.socket(), &self.name, false, &self.shape), self.vacant.remove(&slot)) {
                (Ok(fresh), _) => fresh,
                // To be bound anew may be forbidden by now.
                (Err(_), Some(old)) => renewed(old, &self.shape)?,
                (Err(errno), None) => return Err(errno),
            };
        if !self.selector.is_attached() {
            self.selector.attach(socket.as_fd())?;
            self.selector.put(ENTRANCE, self.entrance.socket())?;
        }
        lock_filter(socket.as_fd())?;
        self.selector.put(slot as u16, socket.as_fd())?;
        self.last_slot = self.last_slot.max(slot);
        Ok(Some(Queue::new(socket, self.selector.assigned(slot))))
    }

    fn vacate(&mut self, slot: u32, queue: Option<Queue>, keep: bool) {
        let Some(queue) = queue else { return };
        // A worker may have taken off what says where the queue goes.
        self.selector.attach_again(self.entrance.socket());
        queue.stop_listening();
        if keep {
            self.vacant.insert(slot, queue.into_socket());
        }
    }

    fn set_turns(&mut self, turns: &mut dyn Iterator<Item = Option<u32>>) {
        let turns: Vec<u16> = turns.map(|slot| slot.map_or(ENTRANCE, |slot| slot as u16)).collect();
        if turns != self.turns {
            self.selector.set_turns(&turns);
            self.turns = turns;
            // Nothing keeps a worker from taking the program off its group (SO_DETACH_REUSEPORT_BPF). The entrance is the one
            // socket that no worker has, and the one that is not locked.
            self.selector.attach_again(self.entrance.socket());
        }
    }

    fn audit(&mut self) -> Option<&'static str> {
        self.selector.attach_again(self.entrance.socket());
        // Who was a worker, or a process that it left behind, may have made one listen again.
        for socket in self.vacant.values() {
            let _ = socket::set_reuse_port(socket.as_fd());
            socket::stop_listening(socket.as_fd());
        }
        None
    }

    fn begun(&self) -> u64 {
        self.selector.begun(self.last_slot)
    }

    fn assigned(&self, slot: u32) -> u64 {
        self.selector.assigned(slot)
    }

    fn each_socket(&self, see: &mut dyn FnMut(BorrowedFd<'_>)) {
        see(self.entrance.socket());
        self.vacant.values().for_each(|socket| see(socket.as_fd()));
    }

    fn accept_last(&mut self) {
        self.entrance.accept_last();
    }

    fn has_waiting(&self) -> bool {
        self.entrance.has_waiting()
    }

    fn close(self: Box<Self>) -> Option<Selector> {
        Some(self.selector)
    }

    #[cfg(any(test, feature = "fuzzing"))]
    fn descriptors_most(&self) -> usize {
        /// The entrance, the program and its maps.
        const OWN: usize = 6;
        OWN + self.vacant.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_that_is_used_again_is_as_it_was() {
        let socket = socket::open(libc::AF_INET, false).unwrap();
        socket::make_blocking(socket.as_fd()).unwrap();
        let socket = renewed(socket, &Shape { backlog: 7, ..Shape::default() }).unwrap();
        assert_eq!(socket::is_nonblocking(socket.as_fd()), Ok(true), "or the primary might wait in it");
        assert_eq!(socket::is_reuse_port(socket.as_fd()), Ok(true));
        assert_eq!(socket::listening_room(socket.as_fd()), Ok(Some(7)));
    }
}
