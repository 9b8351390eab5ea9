//! Datagrams by the mechanism `kernel`: each slot has a socket of its own on the address, and the kernel gives what comes to
//! one of them by a hash of both ends (SO_REUSEPORT, socket(7)), so that the datagrams of one peer meet one worker. It takes
//! no privilege. When the sockets become more or fewer, most peers meet another worker.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;

use super::given_up::Former;
use super::own_socket::OwnSocket;
use super::route::{Found, Route};
use crate::bind::{self, Shape};
use crate::options::SocketOption;
use crate::settings::MechanismKind;
use crate::sys::bpf::lock_filter;
use crate::sys::sockaddr::SockAddr;
use crate::sys::{Sys, socket};

pub(crate) struct Datagrams {
    name: SockAddr,
    shape: Shape,
    /// Keeps the address while nobody has a socket on it, for the next to come.
    spare: Option<Own>,
    sockets: BTreeMap<u32, Own>,
    former: Former,
}

struct Own {
    socket: OwnedFd,
    /// Another worker has or had it, too: its former worker was the last, and what waited in it is for the successor, or one of its
    /// slot is to take the place of another.
    inherited: bool,
    /// How many members have it.
    members: u32,
}

impl Datagrams {
    /// From a socket that is alone on its address.
    pub(crate) fn new(first: OwnedFd, name: SockAddr, shape: Shape) -> Sys<Self> {
        // Only now, so that an address that is taken is found taken.
        socket::set_reuse_port(first.as_fd())?;
        let spare = Some(Own { socket: first, inherited: false, members: 0 });
        Ok(Self { name, shape, spare, sockets: BTreeMap::new(), former: Former::default() })
    }

    /// Puts back into the group what somebody took out of it.
    fn regroup(&self) -> Found {
        let mut found = Found::default();
        self.former.regroup();
        for (slot, own) in &self.sockets {
            if socket::is_reuse_port(own.socket.as_fd()) == Ok(false) {
                let _ = socket::set_reuse_port(own.socket.as_fd());
                // Whoever had it before, or left a process behind, may have done it.
                match own.inherited {
                    true => found.spoiled = Some("taken out of its group, and with it all datagrams,"),
                    false => found.thieves.push(*slot),
                }
            }
        }
        found
    }
}

impl Route for Datagrams {
    fn kind(&self) -> MechanismKind {
        MechanismKind::Kernel
    }

    fn worker_socket(&self, slot: u32) -> Option<BorrowedFd<'_>> {
        self.sockets.get(&slot).map(|own| own.socket.as_fd())
    }

    fn enter(&mut self, slot: u32) -> Sys<Option<OwnSocket>> {
        if let Some(own) = self.sockets.get_mut(&slot) {
            // So no peer meets another slot, and nothing that waits is lost.
            (own.inherited, own.members) = (true, own.members + 1);
            return Ok(None);
        }
        let own = match (self.spare.take(), self.sockets.values().next()) {
            (Some(spare), _) => spare,
            (None, Some(other)) => {
                let beside = || bind::beside(other.socket.as_fd(), &self.name, true, &self.shape);
                let socket = beside().or_else(|errno| match errno {
                    // One that was taken out of the group is in the way of all.
                    Errno::EADDRINUSE => {
                        let _ = self.regroup();
                        beside()
                    }
                    other => Err(other),
                })?;
                Own { socket, inherited: false, members: 0 }
            }
            (None, None) => return Err(Errno::ENOTCONN),
        };
        // A program on one socket would choose for all.
        let fitted = socket::set_reuse_port(own.socket.as_fd()).and_then(|()| lock_filter(own.socket.as_fd()));
        match fitted {
            Ok(()) => drop(self.sockets.insert(slot, Own { members: 1, ..own })),
            Err(errno) => {
                // Without it nobody could be given another.
                if self.sockets.is_empty() {
                    self.spare = Some(own);
                }
                return Err(errno);
            }
        }
        Ok(None)
    }

    fn set_option(&mut self, option: &SocketOption) -> Sys<usize> {
        // All the others are workers', too.
        let replica = bind::replica(&self.name, true, &self.shape)?;
        option.set_on(replica.as_fd())?;
        self.shape.follow(option);
        for own in self.sockets.values().chain(&self.spare) {
            let _ = option.set_on(own.socket.as_fd());
        }
        Ok(self.sockets.len())
    }

    fn each_socket(&self, see: &mut dyn FnMut(BorrowedFd<'_>)) {
        self.spare.iter().chain(self.sockets.values()).for_each(|own| see(own.socket.as_fd()));
    }

    fn each_common(&self, see: &mut dyn FnMut(BorrowedFd<'_>)) {
        self.sockets.values().for_each(|own| see(own.socket.as_fd()));
    }

    fn is_common(&self) -> bool {
        true
    }

    #[cfg(any(test, feature = "fuzzing"))]
    fn descriptors_most(&self) -> usize {
        1 + self.sockets.len() + self.former.len()
    }

    fn audit(&mut self) -> Found {
        Found { risen: self.former.audit(), ..self.regroup() }
    }

    fn keeps_former(&self) -> bool {
        !self.former.is_empty()
    }

    fn leave(&mut self, slot: u32, worker: u32) {
        if let Some(own) = self.sockets.get_mut(&slot).filter(|own| own.members > 1) {
            own.members -= 1;
            return;
        }
        let Some(own) = self.sockets.remove(&slot) else { return };
        if self.sockets.is_empty() {
            self.spare = Some(Own { inherited: true, members: 0, ..own });
        } else {
            // Out of the kernel's choice, also where a process that the worker left behind has it. What waits in it is lost, as
            // datagrams may be.
            self.former.add(worker, own.socket);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::sockaddr;
    use std::net::SocketAddr;

    #[test]
    fn the_spare_is_kept_when_it_cannot_be_fitted() {
        let first = socket::open(libc::AF_INET, true).unwrap();
        socket::bind(first.as_fd(), &"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
        let name = sockaddr::local_name(first.as_fd()).unwrap();
        let mut datagrams = Datagrams::new(first, name, Shape::default()).unwrap();
        // No socket, so that every setsockopt(2) fails.
        let (pipe, _writer) = socket::pipe().unwrap();
        let real = datagrams.spare.replace(Own { socket: pipe, inherited: false, members: 0 });
        assert_eq!(datagrams.enter(0).err(), Some(Errno::ENOTSOCK));
        assert!(datagrams.spare.is_some());
        datagrams.spare = real;
        datagrams.enter(0).unwrap();
        datagrams.enter(1).unwrap();
        datagrams.leave(0, 1);
        assert!(datagrams.spare.is_none() && datagrams.keeps_former());
        datagrams.leave(1, 2);
        assert!(datagrams.spare.as_ref().is_some_and(|own| own.inherited));
    }
}
