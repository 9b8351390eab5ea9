//! The mechanism `kernel`: each slot has a listening socket of its own on the address, and a program in the kernel gives
//! each new connection to one of them.
//!
//! The first socket stays the primary's: the entrance. It takes what comes while no slot has a turn, and the turns of members
//! that have no own socket; the primary passes these on as in the mechanism `passed`. Every own socket is open here too, so that
//! what waits in it outlives its worker (rule R1): when that ends, the kernel moves it to the others.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;

use super::accepting::Accepted;
use super::given_up::{Vacant, give_up, is_forbidden};
use super::own_socket::OwnSocket;
use super::passed::Passed;
use super::program::{ENTRANCE, SLOTS};
use super::route::{Found, Route};
use super::selector::Selector;
use crate::bind::{self, Shape};
use crate::options::SocketOption;
use crate::settings::MechanismKind;
use crate::sys::bpf::lock_filter;
use crate::sys::sockaddr::SockAddr;
use crate::sys::{Sys, descriptor, socket};

pub(crate) struct Kernel {
    entrance: Passed,
    name: SockAddr,
    shape: Shape,
    selector: Selector,
    /// The sockets of slots without a member.
    vacant: BTreeMap<u32, Vacant>,
    turns: Vec<u16>,
    /// The highest slot there has been.
    last_slot: u32,
}

/// Why an address cannot have the mechanism: what it has instead, what was made for it, which call failed and how.
pub(crate) struct Refused {
    pub(crate) passed: Passed,
    pub(crate) selector: Selector,
    pub(crate) call: &'static str,
    pub(crate) errno: Errno,
}

/// To put a socket into the table is refused.
pub(crate) const TABLE: &str = "bpf(2) BPF_MAP_UPDATE_ELEM";

impl Kernel {
    /// From a socket that listens alone on its address, as `passed` has it, which becomes the entrance. No worker comes before that is
    /// in the table and the program chooses: without the entrance, what has no turn would be dropped.
    pub(crate) fn new(entrance: Passed, name: SockAddr, shape: Shape, mut selector: Selector) -> Result<Self, Refused> {
        match set_up(entrance.socket(), &name, &shape, &mut selector) {
            Ok(()) => {
                Ok(Self { entrance, name, shape, selector, vacant: BTreeMap::new(), turns: Vec::new(), last_slot: 0 })
            }
            Err((call, errno)) => {
                let _ = socket::clear_reuse_port(entrance.socket());
                Err(Refused { passed: entrance, selector, call, errno })
            }
        }
    }

    /// A socket for a slot: a new one, of which no process left behind by a former worker has a copy. If binding is forbidden by now,
    /// the one that was kept.
    fn socket_for(&mut self, slot: u32) -> Sys<OwnedFd> {
        let fresh = bind::beside(self.entrance.socket(), &self.name, false, &self.shape);
        let Some(old) = self.vacant.remove(&slot) else { return fresh };
        if let Ok(fresh) = fresh {
            give_up(old.socket.as_fd());
            return Ok(fresh);
        }
        if let Err(errno) = renew(old.socket.as_fd(), &self.shape) {
            self.vacant.insert(slot, old);
            return Err(errno);
        }
        Ok(old.socket)
    }
}

fn set_up(
    entrance: BorrowedFd,
    name: &SockAddr,
    shape: &Shape,
    selector: &mut Selector,
) -> Result<(), (&'static str, Errno)> {
    // Only now, so that an address that is taken is found taken.
    socket::set_reuse_port(entrance).map_err(|errno| ("setsockopt SO_REUSEPORT", errno))?;
    // What listens is of a group, and so can be put into the table, only when another joins it (reuseport_add_sock).
    let other = bind::beside(entrance, name, false, shape).map_err(|errno| ("bind beside the first socket", errno))?;
    let outcome = selector
        .put(ENTRANCE, entrance)
        .map_err(|errno| (TABLE, errno))
        .and_then(|()| selector.attach(entrance).map_err(|errno| ("setsockopt SO_ATTACH_REUSEPORT_EBPF", errno)));
    // Who has come to it meanwhile moves to the entrance.
    socket::stop_listening(other.as_fd());
    outcome
}

/// Makes a socket that was kept as it is needed for the next worker.
fn renew(socket: BorrowedFd, shape: &Shape) -> Sys<()> {
    descriptor::set_nonblocking(socket)?;
    socket::set_reuse_port(socket)?;
    shape.give_options(socket).map_err(|(_, errno)| errno)?;
    socket::listen(socket, bind::backlog(shape.backlog))
}

impl Route for Kernel {
    fn kind(&self) -> MechanismKind {
        MechanismKind::Kernel
    }

    fn primary_socket(&self) -> Option<BorrowedFd<'_>> {
        self.entrance.primary_socket()
    }

    fn announced(&mut self) {
        self.entrance.announced();
    }

    fn accept(&mut self) -> Accepted {
        self.entrance.accept()
    }

    fn enter(&mut self, slot: u32) -> Sys<Option<OwnSocket>> {
        if slot >= SLOTS {
            return Ok(None);
        }
        let socket = self.socket_for(slot)?;
        if let Err(errno) = lock_filter(socket.as_fd()) {
            give_up(socket.as_fd());
            return Err(errno);
        }
        Ok(Some(OwnSocket::new(socket, self.selector.assigned(slot))))
    }

    fn seat(&mut self, slot: u32, own: &OwnSocket) -> Sys<()> {
        self.selector.put(slot as u16, own.socket())?;
        self.last_slot = self.last_slot.max(slot);
        Ok(())
    }

    fn shut(&mut self, slot: u32, own: OwnSocket, keep: bool) {
        // A worker may have taken off what says where those go who wait.
        self.selector.attach_again(self.entrance.socket());
        let worker = own.worker();
        let old = own.into_socket();
        if keep {
            // Its worker may have taken it out of the group, and then nobody can come beside it.
            let _ = socket::set_reuse_port(old.as_fd());
            match bind::bound_beside(self.entrance.socket(), &self.name, false) {
                Ok(socket) => drop(self.vacant.insert(slot, Vacant { socket, of: None })),
                Err(errno) if is_forbidden(errno) => {
                    socket::stop_listening(old.as_fd());
                    self.vacant.insert(slot, Vacant { socket: old, of: Some(worker) });
                    return;
                }
                // The next worker may have better luck.
                Err(_) => {}
            }
        }
        give_up(old.as_fd());
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

    fn audit(&mut self) -> Found {
        self.selector.attach_again(self.entrance.socket());
        // Who was a worker, or a process that it left behind, may have made one listen again.
        let others = self.vacant.values().filter_map(|vacant| vacant.of.map(|worker| (worker, vacant)));
        let risen = others.filter(|(_, vacant)| vacant.has_risen()).map(|(worker, _)| worker).collect();
        Found { risen, ..Found::default() }
    }

    fn is_common(&self) -> bool {
        true
    }

    fn counts(&self) -> bool {
        true
    }

    fn keeps_former(&self) -> bool {
        self.vacant.values().any(|vacant| vacant.of.is_some())
    }

    fn set_option(&mut self, option: &SocketOption) -> Sys<usize> {
        let count = self.entrance.set_option(option)?;
        self.shape.follow(option);
        for vacant in self.vacant.values() {
            // One that takes no options any more is replaced by another, which has them.
            let _ = option.set_on(vacant.socket.as_fd());
        }
        Ok(count)
    }

    fn begun(&self) -> u64 {
        self.selector.begun(self.last_slot)
    }

    fn assigned(&self, slot: u32) -> u64 {
        self.selector.assigned(slot)
    }

    fn each_socket(&self, see: &mut dyn FnMut(BorrowedFd<'_>)) {
        see(self.entrance.socket());
        self.vacant.values().for_each(|vacant| see(vacant.socket.as_fd()));
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
        descriptor::make_blocking(socket.as_fd()).unwrap();
        renew(socket.as_fd(), &Shape { backlog: 7, ..Shape::default() }).unwrap();
        assert_eq!(descriptor::is_nonblocking(socket.as_fd()), Ok(true), "or the primary might wait in it");
        assert_eq!(socket::is_reuse_port(socket.as_fd()), Ok(true));
        assert_eq!(socket::listening_room(socket.as_fd()), Ok(Some(7)));
    }
}
