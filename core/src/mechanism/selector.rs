//! The loaded program that chooses the slot of each new connection, and the memory by which the primary steers it.
//!
//! The primary writes a new table of turns beside the one in force, and then points to it. What the program does with them is
//! in `program`.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering;

use super::program::{
    ASSIGNED_AT, CURRENT, Choice, LENGTH, MIGRATED, SEED, SLOTS, TABLE_LENGTH, TABLES_AT, TURNS, TURNS_AT, assemble,
};
use crate::sys::Sys;
use crate::sys::bpf::{SharedValue, attach_selector, load_selector, put_socket, socket_array};

/// The program, loaded, with its maps.
pub(crate) struct Selector {
    state: SharedValue,
    sockets: OwnedFd,
    program: OwnedFd,
    choice: Choice,
    attached: bool,
}

impl Selector {
    /// What an address needs of the kernel. It can be made ahead: it takes CAP_BPF (EPERM without it), which the program may give up
    /// later.
    pub(crate) fn load(choice: Choice) -> Sys<Self> {
        let (state, map) = SharedValue::new(LENGTH)?;
        let sockets = socket_array(SLOTS + 1)?;
        let program = load_selector(&assemble(choice, map.as_fd(), sockets.as_fd())?)?;
        Ok(Self { state, sockets, program, choice, attached: false })
    }

    /// As it was when it was loaded, for another address. The sockets that it knew must not listen any more.
    pub(crate) fn renew(mut self) -> Self {
        for offset in (0..LENGTH).step_by(8) {
            self.state.double(offset).store(0, Ordering::Relaxed);
        }
        self.attached = false;
        self
    }

    /// How it chooses.
    pub(crate) fn choice(&self) -> Choice {
        self.choice
    }

    /// By this seed it hashes clients, as the table of its address does.
    pub(crate) fn set_seed(&self, seed: u32) {
        self.state.word(SEED).store(seed, Ordering::Relaxed);
    }

    /// Lets the program choose for the group of a listening socket.
    pub(crate) fn attach(&mut self, member: BorrowedFd) -> Sys<()> {
        attach_selector(member, self.program.as_fd())?;
        self.attached = true;
        Ok(())
    }

    /// The same once it did, in case somebody took it off.
    pub(crate) fn attach_again(&self, member: BorrowedFd) {
        if self.attached {
            let _ = attach_selector(member, self.program.as_fd());
        }
    }

    /// A slot's socket, which must listen in the group. EBUSY for one that has a place already.
    pub(crate) fn put(&self, slot: u16, socket: BorrowedFd) -> Sys<()> {
        put_socket(self.sockets.as_fd(), slot.into(), socket)
    }

    /// The table from now on. A connection that is being given out at this moment may still follow the old one.
    pub(crate) fn set_turns(&self, turns: &[u16]) {
        let next = (self.state.word(CURRENT).load(Ordering::Relaxed) & 1) ^ 1;
        let table = TABLES_AT + next as usize * TABLE_LENGTH;
        let turns = &turns[..turns.len().min(TURNS)];
        for (index, slot) in turns.iter().enumerate() {
            self.state.half(table + TURNS_AT + index * 2).store(*slot, Ordering::Relaxed);
        }
        self.state.word(table).store(turns.len() as u32, Ordering::Relaxed);
        self.state.word(CURRENT).store(next, Ordering::Release);
    }

    /// Connections that were begun with the slots up to this one, each counted once.
    pub(crate) fn begun(&self, last: u32) -> u64 {
        let migrated = self.state.double(MIGRATED).load(Ordering::Relaxed);
        (0..=last).map(|slot| self.assigned(slot)).sum::<u64>().saturating_sub(migrated)
    }

    /// Connections that were begun with a slot, or came to it from one whose socket was closed.
    pub(crate) fn assigned(&self, slot: u32) -> u64 {
        let at = ASSIGNED_AT + slot.min(SLOTS - 1) as usize * 8;
        self.state.double(at).load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::super::program::ENTRANCE;
    use super::*;
    use crate::policy::{Table, hash_of_client};
    use crate::sys::{sockaddr, socket};
    use std::net::{SocketAddr, TcpStream};

    /// `None`, and so a test that passes without having looked, only where the machine does not let us.
    fn selector(choice: Choice) -> Option<Selector> {
        match Selector::load(choice) {
            Err(nix::errno::Errno::EPERM) => {
                eprintln!("skipped: this process may not use bpf(2)");
                None
            }
            loaded => Some(loaded.unwrap()),
        }
    }

    fn listening(at: SocketAddr, exclusive: bool) -> OwnedFd {
        let socket = socket::open(if at.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 }, false).unwrap();
        if !exclusive {
            socket::set_reuse_port(socket.as_fd()).unwrap();
        }
        socket::bind(socket.as_fd(), &at.into()).unwrap();
        socket::listen(socket.as_fd(), 511).unwrap();
        socket
    }

    #[test]
    fn each_slot_in_turn_and_what_has_no_turn_to_the_entrance() {
        let Some(mut selector) = selector(Choice::InTurn) else { return };
        let entrance = listening("127.0.0.1:0".parse().unwrap(), true);
        let at = sockaddr::local_name(entrance.as_fd()).unwrap().to_inet().unwrap();
        socket::set_reuse_port(entrance.as_fd()).unwrap();
        let slots: Vec<OwnedFd> = (0..3).map(|_| listening(at, false)).collect();
        selector.attach(slots[0].as_fd()).unwrap();
        selector.put(ENTRANCE, entrance.as_fd()).unwrap();
        for (index, slot) in slots.iter().enumerate() {
            selector.put(index as u16, slot.as_fd()).unwrap();
        }
        let mut clients = Vec::new();
        let mut connect = |count: usize| {
            for _ in 0..count {
                clients.push(TcpStream::connect(at).unwrap());
            }
        };
        let taken = |socket: &OwnedFd| {
            let mut count = 0;
            while socket::accept(socket.as_fd(), 0).is_ok() {
                count += 1;
            }
            count
        };
        let all = || (taken(&entrance), slots.iter().map(taken).collect::<Vec<_>>());
        connect(2);
        assert_eq!(all(), (2, vec![0, 0, 0]), "an empty table");
        selector.set_turns(&[0, 1, 2]);
        connect(30);
        assert_eq!(all(), (0, vec![10, 10, 10]));
        let assigned: Vec<u64> = (0..3).map(|slot| selector.assigned(slot)).collect();
        assert_eq!(assigned, [10, 10, 10]);
        selector.set_turns(&[0, ENTRANCE]);
        connect(20);
        assert_eq!(all(), (10, vec![10, 0, 0]));
        // A slot without a socket.
        selector.set_turns(&[7]);
        connect(3);
        assert_eq!(all(), (3, vec![0, 0, 0]));
        // What waits at a socket that is closed moves on.
        selector.set_turns(&[2]);
        connect(5);
        selector.set_turns(&[0, 1]);
        let mut slots = slots;
        drop(slots.pop());
        let moved: Vec<usize> = slots.iter().map(taken).collect();
        assert_eq!(moved.iter().sum::<usize>(), 5);
    }

    /// Connects from many addresses and asks the table and the kernel where each belongs.
    fn agree(at: &str, clients: &[std::net::IpAddr]) {
        const SEED: u32 = 0xfeed_beef;
        let Some(mut selector) = selector(Choice::ByClient) else { return };
        selector.set_seed(SEED);
        let at: SocketAddr = at.parse().unwrap();
        let entrance = listening(at, true);
        let at = sockaddr::local_name(entrance.as_fd()).unwrap().to_inet().unwrap();
        socket::set_reuse_port(entrance.as_fd()).unwrap();
        let slots: Vec<OwnedFd> = (0..4).map(|_| listening(at, false)).collect();
        selector.attach(slots[0].as_fd()).unwrap();
        selector.put(ENTRANCE, entrance.as_fd()).unwrap();
        for (index, slot) in slots.iter().enumerate() {
            selector.put(index as u16, slot.as_fd()).unwrap();
        }
        let mut table = Table::new(SEED);
        table.follow(0..4);
        let owners: Vec<u16> = table.owners().iter().map(|slot| *slot as u16).collect();
        selector.set_turns(&owners);
        let mut given = [0; 4];
        for client in clients {
            for _ in 0..2 {
                let socket = socket::open(if at.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 }, false).unwrap();
                socket::bind(socket.as_fd(), &SocketAddr::new(*client, 0).into()).unwrap();
                assert_eq!(socket::connect(socket.as_fd(), &at.into()), Err(nix::errno::Errno::EINPROGRESS));
                let wanted = table.slot_of(hash_of_client(*client, SEED)).unwrap();
                given[wanted as usize] += 1;
                // Begun once, though the ACK of a handshake may pass through the program, too.
                assert_eq!([0, 1, 2, 3].map(|slot| selector.assigned(slot)), given);
                let (_, peer) = socket::accept(slots[wanted as usize].as_fd(), 0).expect("at the slot of the table");
                assert_eq!(peer.to_inet().map(|peer| peer.ip()), Some(*client));
            }
        }
    }

    #[test]
    fn the_kernel_finds_the_slot_that_the_policy_finds() {
        let clients: Vec<std::net::IpAddr> =
            (1..200_u8).map(|last| std::net::Ipv4Addr::new(127, last / 7, last, last).into()).collect();
        agree("127.0.0.1:0", &clients);
        agree("[::1]:0", &["::1".parse().unwrap()]);
    }
}
