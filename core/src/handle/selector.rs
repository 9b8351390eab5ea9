//! The program in the kernel that chooses the slot of each new connection, and the memory it shares with the primary.
//!
//! It runs when a packet that belongs to no connection arrives at an address (`BPF_PROG_TYPE_SK_REUSEPORT`), and chooses one
//! of the address's listening sockets. Three things make it exact. Only a SYN takes a turn, so that a stray packet moves
//! nothing. What a SYN chose is remembered until its ACK: under SYN cookies the kernel keeps nothing of a SYN and asks again
//! at the ACK. And it chooses by a table of turns in which only slots stand that are to be served; the primary writes a new
//! one beside the old and then points to it. Whatever has no turn goes to the primary's own socket, the entrance, and never
//! to a stranger who has joined the group.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering;

use crate::policy::Policy;
use crate::sys::Sys;
use crate::sys::bpf::{
    Assembler, Label, Operation::*, Register, Register::*, SharedValue, When::*, Width::*, attach_selector,
    load_selector, put_socket, socket_array,
};

/// The most slots.
pub(crate) const SLOTS: u32 = 1024;
/// The turn of nobody's slot: the entrance takes the connection. Its place in the array is behind the slots'.
pub(crate) const ENTRANCE: u16 = SLOTS as u16;
/// The most turns in a table.
pub(crate) const TURNS: usize = 4096;

/// Half-finished handshakes that are remembered. More at a time collide, and an ACK whose SYN was forgotten goes to the
/// entrance.
const PENDING: usize = 2048;

// The shared memory. What the program writes and what the primary writes are kept on cache lines apart.
const TURN: usize = 0;
const CURRENT: usize = 64;
const SEED: usize = 72;
const MIGRATED: usize = 128;
const ASSIGNED_AT: usize = 192;
const PENDING_AT: usize = ASSIGNED_AT + SLOTS as usize * 8;
const TABLES_AT: usize = PENDING_AT + PENDING * 4;
const TABLE_LENGTH: usize = 64 + TURNS * 2;
const TURNS_AT: usize = 64;
const LENGTH: usize = TABLES_AT + 2 * TABLE_LENGTH;

// struct sk_reuseport_md of include/uapi/linux/bpf.h.
const CONTEXT_DATA: i16 = 0;
const CONTEXT_DATA_END: i16 = 8;
const CONTEXT_PROTOCOL: i16 = 20;
const CONTEXT_HASH: i16 = 32;
const CONTEXT_MIGRATING: i16 = 48;

// The TCP header (RFC 9293): where its flags are.
const TCP_FLAGS_AT: i16 = 13;
const FIN_SYN_RST_ACK: i32 = 0x17;
const SYN: i32 = 0x02;
const ACK: i32 = 0x10;

// The IPv4 (RFC 791) and IPv6 (RFC 8200) headers: where the client's address is; and the numbers of both for Ethernet.
const IPV4_SOURCE_AT: i32 = 12;
const IPV6_SOURCE_AT: i32 = 8;
const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;

/// Where on the stack the client's address is put, from its end.
const ADDRESS_BELOW: i16 = 24;
const FROM_NETWORK_HEADER: i32 = 1;
const SKB_LOAD_BYTES_RELATIVE: i32 = 68;
const SK_SELECT_REUSEPORT: i32 = 82;
const DROP: i32 = 0;
const PASS: i32 = 1;

/// How a slot is chosen from the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Choice {
    /// Each turn in order.
    InTurn,
    /// By the client's address, as `policy::source_hash` does it, whose table of buckets the turns are.
    ByClient,
}

impl Choice {
    /// That of an address under a policy.
    pub(crate) fn of(policy: Policy) -> Self {
        match policy {
            Policy::SourceHash => Self::ByClient,
            _ => Self::InTurn,
        }
    }
}

/// The program, loaded, with its maps.
pub(crate) struct Selector {
    state: SharedValue,
    sockets: OwnedFd,
    program: OwnedFd,
    choice: Choice,
    attached: bool,
}

impl Selector {
    /// Needs CAP_BPF; EPERM without it.
    pub(crate) fn load(choice: Choice) -> Sys<Self> {
        let (state, map) = SharedValue::new(LENGTH)?;
        let sockets = socket_array(SLOTS + 1)?;
        let program = load_selector(assemble(choice, map.as_fd(), sockets.as_fd()))?;
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

/// The program, line by line. R6: the context. R7: the shared memory. R9: the slot.
fn assemble(choice: Choice, state: BorrowedFd, sockets: BorrowedFd) -> Assembler {
    let mut a = Assembler::default();
    let (entrance, pass) = (a.label(), a.label());

    a.copy(R6, R1);
    a.map_value(R7, state);
    match choice {
        Choice::InTurn => by_turn(&mut a, sockets, entrance, pass),
        Choice::ByClient => by_client(&mut a, sockets, entrance, pass),
    }

    // Nobody has a turn, or his socket is gone.
    a.place(entrance);
    a.number(Set, R9, ENTRANCE.into());
    select(&mut a, sockets, R9);
    a.jump_if(R0, Equal, 0, pass);
    a.exit(DROP);

    a.place(pass);
    a.exit(PASS);
    a
}

/// R8: the packet's hash.
fn by_turn(a: &mut Assembler, sockets: BorrowedFd, entrance: Label, pass: Label) {
    let (syn, chosen, turn) = (a.label(), a.label(), a.label());

    a.load(Word, R8, R6, CONTEXT_HASH);
    // A connection that migrates from a listening socket that is being closed may come without a packet.
    a.load(Double, R1, R6, CONTEXT_MIGRATING);
    a.jump_if(R1, NotEqual, 0, turn);

    flags(a, entrance);
    a.jump_if(R1, Equal, SYN, syn);
    a.jump_if(R1, NotEqual, ACK, entrance);

    // An ACK: the third packet of a handshake under SYN cookies, if its SYN is remembered; a stray one else.
    pending_of(a, R8);
    a.load(Word, R3, R2, 0);
    a.copy(R4, R3);
    a.number(ShiftRight, R4, 16);
    a.jump_if_register(R4, NotEqual, R5, entrance);
    a.number(And, R3, 0xffff);
    a.jump_if(R3, Equal, 0, entrance);
    a.copy(R9, R3);
    a.number(Add, R9, -1);
    a.number(Set, R1, 0);
    a.store(Word, R2, 0, R1);
    select(a, sockets, R9);
    a.jump_if(R0, Equal, 0, pass);
    a.jump(entrance);

    a.place(turn);
    migrate(a, entrance);
    a.jump(chosen);

    // A SYN takes a turn and is remembered.
    a.place(syn);
    take_turn(a);
    look_up(a, entrance);
    pending_of(a, R8);
    a.number(ShiftLeft, R5, 16);
    a.register(Add, R5, R9);
    a.number(Add, R5, 1);
    a.store(Word, R2, 0, R5);

    a.place(chosen);
    select(a, sockets, R9);
    a.jump_if(R0, NotEqual, 0, entrance);
    count(a, pass);
    a.jump(pass);
}

/// R8: the packet's flags.
fn by_client(a: &mut Assembler, sockets: BorrowedFd, entrance: Label, pass: Label) {
    let (chosen, packet, known, ip_6, hashed) = (a.label(), a.label(), a.label(), a.label(), a.label());
    a.load(Double, R1, R6, CONTEXT_MIGRATING);
    a.jump_if(R1, Equal, 0, packet);
    // There may be no packet to read the address from.
    a.number(Set, R8, SYN);
    migrate(a, entrance);
    a.jump(chosen);

    a.place(packet);
    flags(a, entrance);
    a.copy(R8, R1);
    // A SYN and the ACK of its handshake come from one address and so to one slot.
    a.jump_if(R8, Equal, SYN, known);
    a.jump_if(R8, NotEqual, ACK, entrance);

    a.place(known);
    a.load(Word, R1, R6, CONTEXT_PROTOCOL);
    a.jump_if(R1, Equal, i32::from(ETHERTYPE_IPV6.to_be()), ip_6);
    a.jump_if(R1, NotEqual, i32::from(ETHERTYPE_IPV4.to_be()), entrance);
    load_bytes(a, IPV4_SOURCE_AT, 4, entrance);
    a.load(Word, R1, R7, SEED as i16);
    mix_in(a, ADDRESS_BELOW);
    a.jump(hashed);

    a.place(ip_6);
    load_bytes(a, IPV6_SOURCE_AT, 16, entrance);
    a.load(Word, R1, R7, SEED as i16);
    for word in 0..4 {
        mix_in(a, ADDRESS_BELOW - 4 * word);
    }

    a.place(hashed);
    look_up(a, entrance);
    a.place(chosen);
    select(a, sockets, R9);
    a.jump_if(R0, NotEqual, 0, entrance);
    // What a SYN has begun is counted, not the ACK under SYN cookies once more.
    a.jump_if(R8, NotEqual, SYN, pass);
    count(a, pass);
    a.jump(pass);
}

/// R1 = the flags of the packet that tell what it is for. One that is too short to have any goes elsewhere.
fn flags(a: &mut Assembler, elsewhere: Label) {
    a.load(Double, R2, R6, CONTEXT_DATA);
    a.load(Double, R3, R6, CONTEXT_DATA_END);
    a.copy(R1, R2);
    a.number(Add, R1, i32::from(TCP_FLAGS_AT) + 1);
    a.jump_if_register(R1, Greater, R3, elsewhere);
    a.load(Byte, R1, R2, TCP_FLAGS_AT);
    a.number(And, R1, FIN_SYN_RST_ACK);
}

/// R9 = the slot for a connection that migrates: it takes a turn, and no ACK of it is to come.
fn migrate(a: &mut Assembler, nobody: Label) {
    a.number(Set, R1, 1);
    a.add_atomically(R7, MIGRATED as i16, R1);
    take_turn(a);
    look_up(a, nobody);
}

/// The stack's memory[-ADDRESS_BELOW] = bytes of the network header. Uses R1 to R5.
fn load_bytes(a: &mut Assembler, offset: i32, length: i32, elsewhere: Label) {
    a.copy(R1, R6);
    a.number(Set, R2, offset);
    a.stack_address(R3, ADDRESS_BELOW);
    a.number(Set, R4, length);
    a.number(Set, R5, FROM_NETWORK_HEADER);
    a.call(SKB_LOAD_BYTES_RELATIVE);
    a.jump_if(R0, NotEqual, 0, elsewhere);
}

/// R1 = R1 with the word at the stack's memory[-below] mixed in, as `policy::source_hash::client_hash` does it. Uses R2.
fn mix_in(a: &mut Assembler, below: i16) {
    a.pop_word(R2, below);
    a.register_32(ExclusiveOr, R1, R2);
    for (factor, shift) in [(0x9e37_79b1_u32, 15), (0x85eb_ca77, 13)] {
        a.number_32(Multiply, R1, factor as i32);
        a.register_32(Set, R2, R1);
        a.number_32(ShiftRight, R2, shift);
        a.register_32(ExclusiveOr, R1, R2);
    }
}

/// R1 = the number of this turn
fn take_turn(a: &mut Assembler) {
    a.number(Set, R1, 1);
    a.fetch_and_add(R7, TURN as i16, R1);
}

/// R9 = the slot that has turn R1 modulo the table's length, in the table that counts now. Uses R1 to R4.
fn look_up(a: &mut Assembler, nobody: Label) {
    a.load(Word, R2, R7, CURRENT as i16);
    a.number(And, R2, 1);
    a.number(Multiply, R2, TABLE_LENGTH as i32);
    a.register(Add, R2, R7);
    a.number(Add, R2, TABLES_AT as i32);
    a.load(Word, R3, R2, 0);
    a.jump_if(R3, Equal, 0, nobody);
    a.register_32(Modulo, R1, R3);
    // Never, but the kernel wants to see that it stays inside.
    a.jump_if(R1, GreaterOrEqual, TURNS as i32, nobody);
    a.number(ShiftLeft, R1, 1);
    a.register(Add, R2, R1);
    a.load(Half, R9, R2, TURNS_AT as i16);
}

/// R2 = where the handshake with a hash is remembered; R5 = the half of the hash that tells it from others there.
fn pending_of(a: &mut Assembler, hash: Register) {
    a.copy(R5, hash);
    a.number(ShiftRight, R5, 16);
    a.copy(R2, hash);
    a.number(And, R2, PENDING as i32 - 1);
    a.number(ShiftLeft, R2, 2);
    a.register(Add, R2, R7);
    a.number(Add, R2, PENDING_AT as i32);
}

/// R0 = 0 if the socket at a place of the array takes the connection. Uses R1 to R5.
fn select(a: &mut Assembler, sockets: BorrowedFd, place: Register) {
    a.push_register(4, place);
    a.copy(R1, R6);
    a.map(R2, sockets);
    a.stack_address(R3, 4);
    a.number(Set, R4, 0);
    a.call(SK_SELECT_REUSEPORT);
}

/// One more for slot R9, unless that is the entrance.
fn count(a: &mut Assembler, done: Label) {
    a.jump_if(R9, GreaterOrEqual, SLOTS as i32, done);
    a.copy(R2, R9);
    a.number(ShiftLeft, R2, 3);
    a.register(Add, R2, R7);
    a.number(Set, R1, 1);
    a.add_atomically(R2, ASSIGNED_AT as i16, R1);
}

#[cfg(test)]
mod tests {
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
