//! Sockets that slots have given up. The slot's former worker may still live, or have left a process behind, and has a copy. What it
//! does with that must not affect those who come later.
//!
//! A TCP socket that is bound to an interface that does not exist receives nothing, listening or not. Taking that back needs
//! CAP_NET_RAW, and connect(2) to AF_UNSPEC does not undo it (Linux 5.7 to 6.18). For a UDP socket that connect(2) does undo it, so
//! these are kept for a while and checked. So are sockets that must serve the next worker, because binding another is forbidden.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;

use crate::sys::{Sys, door, socket};

/// How many datagram sockets are checked at most. However often a worker comes and goes, it costs no more descriptors.
const MOST: usize = 8;

/// From here on nobody comes to it, whatever others do with their copies. What waits goes to others of its group, or is lost.
pub(crate) fn give_up(socket: BorrowedFd) {
    // First, so that nobody lets it listen again in between.
    let _ = door::bind_to_nowhere(socket);
    socket::stop_listening(socket);
}

/// The address cannot be bound any more by this process, which has given up the privilege.
pub(super) fn is_forbidden(errno: Errno) -> bool {
    matches!(errno, Errno::EACCES | Errno::EPERM)
}

/// A socket that waits for the slot's next worker. It does not listen.
pub(super) struct Vacant {
    pub(super) socket: OwnedFd,
    /// Whose it was; `None` for one that nobody has had yet.
    pub(super) of: Option<u32>,
}

impl Vacant {
    /// Somebody has let it listen, or taken it out of the group, which is undone.
    pub(super) fn has_risen(&self) -> bool {
        let socket = self.socket.as_fd();
        let listens = socket::listening_backlog(socket).is_ok_and(|backlog| backlog.is_some());
        let alone = socket::is_reuse_port(socket) == Ok(false);
        if alone {
            let _ = socket::set_reuse_port(socket);
        }
        if listens {
            socket::stop_listening(socket);
        }
        listens || alone
    }
}

/// Datagram sockets that were given up, and whose each was.
#[derive(Default)]
pub(super) struct Former(VecDeque<(u32, OwnedFd)>);

impl Former {
    pub(super) fn add(&mut self, worker: u32, socket: OwnedFd) {
        give_up(socket.as_fd());
        self.0.push_back((worker, socket));
        if self.0.len() > MOST {
            self.0.pop_front();
        }
    }

    /// They are in nobody's way who binds another beside them.
    pub(super) fn regroup(&self) {
        for (_, socket) in &self.0 {
            let _ = socket::set_reuse_port(socket.as_fd());
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whose sockets were made to receive again; they do not any more.
    pub(super) fn audit(&mut self) -> Vec<u32> {
        let risen = |socket: BorrowedFd| door::is_bound_to_nowhere(socket) == Ok(false);
        let found: Vec<u32> =
            self.0.iter().filter(|(_, socket)| risen(socket.as_fd())).map(|(worker, _)| *worker).collect();
        for (_, socket) in &self.0 {
            let _: Sys<()> = door::bind_to_nowhere(socket.as_fd());
        }
        found
    }

    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::{descriptor, sockaddr};
    use std::net::{SocketAddr, TcpStream};
    use std::os::fd::AsRawFd;

    fn disconnect(socket: BorrowedFd) {
        assert_eq!(socket::connect(socket, &sockaddr::SockAddr::from_bytes(&[0; 16])), Ok(()));
    }

    #[test]
    fn a_listening_socket_that_was_given_up_gets_nobody_whatever_is_done_with_a_copy() {
        let socket = socket::open(libc::AF_INET, false).unwrap();
        socket::set_reuse_port(socket.as_fd()).unwrap();
        socket::bind(socket.as_fd(), &"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
        socket::listen(socket.as_fd(), 8).unwrap();
        let at = sockaddr::local_name(socket.as_fd()).unwrap().to_inet().unwrap();
        let copy = descriptor::duplicate(socket.as_fd()).unwrap();
        give_up(socket.as_fd());
        drop(socket);
        for disconnects in [false, true, false] {
            if disconnects {
                disconnect(copy.as_fd());
            }
            socket::listen(copy.as_fd(), 8).unwrap();
            socket::clear_reuse_port(copy.as_fd()).unwrap();
            assert_eq!(TcpStream::connect(at).unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
        }
    }

    #[test]
    fn a_datagram_socket_that_was_given_up_and_rises_is_found_and_few_are_kept() {
        let mut former = Former::default();
        let mut copies = Vec::new();
        for worker in 0..MOST as u32 + 3 {
            let socket = socket::open(libc::AF_INET, true).unwrap();
            socket::bind(socket.as_fd(), &"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
            copies.push(descriptor::duplicate(socket.as_fd()).unwrap());
            former.add(worker, socket);
        }
        assert_eq!(former.len(), MOST);
        assert!(former.audit().is_empty());
        let last = copies.last().unwrap();
        assert!(last.as_raw_fd() > 2);
        disconnect(last.as_fd());
        assert_eq!(former.audit(), [MOST as u32 + 2]);
        assert!(former.audit().is_empty());
    }
}
