//! Datagrams by the mechanism `kernel`: each slot has a socket of its own on the address, and the kernel gives what comes to
//! one of them by a hash of both ends (SO_REUSEPORT, socket(7)), so that the datagrams of one peer meet one worker. It takes
//! no privilege. When the sockets become more or fewer, most peers meet another worker.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;

use super::{Accepted, Mechanism, MechanismKind, Queue};
use crate::bind::{self, Shape};
use crate::options::SocketOption;
use crate::sys::bpf::lock_filter;
use crate::sys::sockaddr::SockAddr;
use crate::sys::{Sys, door, socket};

pub(crate) struct Datagrams {
    name: SockAddr,
    shape: Shape,
    /// Keeps the address while nobody has a socket on it, for the next to come.
    spare: Option<OwnedFd>,
    sockets: BTreeMap<u32, OwnedFd>,
}

impl Datagrams {
    /// From a socket that is alone on its address.
    pub(crate) fn new(first: OwnedFd, name: SockAddr, shape: Shape) -> Sys<Self> {
        // Only now, so that an address that is taken is found taken.
        socket::set_reuse_port(first.as_fd())?;
        Ok(Self { name, shape, spare: Some(first), sockets: BTreeMap::new() })
    }
}

impl Mechanism for Datagrams {
    fn kind(&self) -> MechanismKind {
        MechanismKind::Kernel
    }

    fn granted_socket(&self, slot: u32) -> Option<BorrowedFd<'_>> {
        self.sockets.get(&slot).map(AsFd::as_fd)
    }

    fn accepted_socket(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn accept(&mut self) -> Accepted {
        Accepted::Nothing
    }

    fn seat(&mut self, slot: u32) -> Sys<Option<Queue>> {
        let socket = match (self.spare.take(), self.sockets.values().next()) {
            (Some(spare), _) => {
                socket::set_reuse_port(spare.as_fd())?;
                spare
            }
            (None, Some(other)) => bind::beside(other.as_fd(), &self.name, true, &self.shape)?,
            (None, None) => return Err(Errno::ENOTCONN),
        };
        // A program on one socket would choose for all.
        lock_filter(socket.as_fd())?;
        self.sockets.insert(slot, socket);
        Ok(None)
    }

    fn set_option(&mut self, option: &SocketOption) -> Sys<usize> {
        // All the others are workers', too.
        let replica = bind::replica(&self.name, true, &self.shape)?;
        socket::set_option(replica.as_fd(), option)?;
        self.shape.follow(option);
        for socket in self.sockets.values().chain(&self.spare) {
            let _ = socket::set_option(socket.as_fd(), option);
        }
        Ok(self.sockets.len())
    }

    fn each_socket(&self, see: &mut dyn FnMut(BorrowedFd<'_>)) {
        self.spare.iter().chain(self.sockets.values()).for_each(|socket| see(socket.as_fd()));
    }

    #[cfg(any(test, feature = "fuzzing"))]
    fn descriptors_most(&self) -> usize {
        1 + self.sockets.len()
    }

    fn audit(&mut self) -> Option<&'static str> {
        let stolen = |socket: &&OwnedFd| socket::is_reuse_port(socket.as_fd()) == Ok(false);
        let mut found = None;
        for socket in self.sockets.values().filter(stolen) {
            let _ = socket::set_reuse_port(socket.as_fd());
            found = Some("had taken its socket out of the group, and with it all datagrams");
        }
        found
    }

    fn vacate(&mut self, slot: u32, _queue: Option<Queue>, _keep: bool) {
        let socket = self.sockets.remove(&slot);
        // Closed, it is out of the kernel's choice; what waits in it is lost, as datagrams may be. So it is if a child of the
        // worker's own has a copy, who would be given datagrams that it does not read.
        self.spare = socket.filter(|socket| {
            let is_last = self.sockets.is_empty();
            if !is_last {
                let _ = door::bind_to_nowhere(socket.as_fd());
            }
            is_last
        });
    }
}
