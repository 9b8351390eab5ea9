//! The program in the kernel that chooses the slot of each new connection, line by line.
//!
//! It runs when a packet that belongs to no connection arrives at an address (`BPF_PROG_TYPE_SK_REUSEPORT`), and chooses one
//! of the address's listening sockets. Three things make it exact:
//!
//! - Only a SYN takes a turn, so a stray packet moves nothing.
//! - What a SYN chose is remembered until its ACK. Under SYN cookies the kernel keeps nothing of a SYN, and asks again at the ACK.
//! - The table of turns holds only slots that are to be served.
//!
//! Whatever has no turn goes to the primary's own socket, the entrance, and never to a stranger who has joined the group.

use std::os::fd::BorrowedFd;

use super::assembler::{Assembler, Label, Operation::*, Register, Register::*, When::*, Width::*};
use crate::policy::Policy;
use crate::sys::Sys;
use crate::sys::bpf::Instruction;

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
pub(super) const CURRENT: usize = 64;
pub(super) const SEED: usize = 72;
pub(super) const MIGRATED: usize = 128;
pub(super) const ASSIGNED_AT: usize = 192;
const PENDING_AT: usize = ASSIGNED_AT + SLOTS as usize * 8;
pub(super) const TABLES_AT: usize = PENDING_AT + PENDING * 4;
pub(super) const TABLE_LENGTH: usize = 64 + TURNS * 2;
pub(super) const TURNS_AT: usize = 64;
pub(super) const LENGTH: usize = TABLES_AT + 2 * TABLE_LENGTH;

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

/// The whole program. `state`: the shared memory, `sockets`: the slots' and the entrance. R6: the context. R7: the shared memory.
/// R9: the slot.
pub(super) fn assemble(choice: Choice, state: BorrowedFd, sockets: BorrowedFd) -> Sys<Vec<Instruction>> {
    let mut a = Assembler::default();
    let (entrance, pass) = (a.label(), a.label());

    a.copy(R6, R1);
    a.map_value(R7, state);
    match choice {
        Choice::InTurn => by_turn(&mut a, sockets, entrance, pass),
        Choice::ByClient => by_client(&mut a, sockets, entrance, pass),
    }

    // Nobody has a turn, or its socket is gone.
    a.place(entrance);
    a.number(Set, R9, ENTRANCE.into());
    select(&mut a, sockets, R9);
    a.jump_if(R0, Equal, 0, pass);
    a.exit(DROP);

    a.place(pass);
    a.exit(PASS);
    a.finish()
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
    a.load(Word, R2, Stack, -below);
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
    a.store(Word, Stack, -4, place);
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
