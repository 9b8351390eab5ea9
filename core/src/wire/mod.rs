//! What the processes say to each other (docs/protocol.md): the words, and how long they may be. Pure, without I/O.

mod frames;

use crate::sys::sockaddr::{SOCKADDR_MAX, SockAddr};

/// The protocol's version.
pub(crate) const VERSION: u32 = 1;
/// The most bytes of one message of the program's.
pub const MESSAGE_MAX: usize = 65536;
/// The longest frame.
pub(crate) const FRAME_MAX: usize = HEADER + MESSAGE_MAX;
/// The longest frame of a mailbox.
pub(crate) const PARCEL_MAX: usize = HEADER + SOCKADDR_MAX;

const HEADER: usize = 8;
const MAGIC: [u8; 8] = *b"libclust";
const SENTENCE_MAX: usize = 512;

mod kind {
    pub(super) const HELLO: u16 = 1;
    pub(super) const ONLINE: u16 = 2;
    pub(super) const LISTEN: u16 = 3;
    pub(super) const CLOSE: u16 = 4;
    pub(super) const MESSAGE: u16 = 5;
    pub(super) const LOAD: u16 = 6;
    pub(super) const DISCONNECT: u16 = 7;
    pub(super) const GRANT: u16 = 8;
    pub(super) const CONNECTION: u16 = 9;
    pub(super) const NOP: u16 = 10;
    pub(super) const STOP: u16 = 11;
    pub(super) const PAUSE: u16 = 12;
    pub(super) const RESUME: u16 = 13;
    pub(super) const UNSEAT: u16 = 14;
    pub(super) const RETURNS: u16 = 15;
    pub(super) const HANDBACK: u16 = 16;
    pub(super) const SETSOCKOPT: u16 = 17;
    pub(super) const SEAT: u16 = 18;
    pub(super) const BEGIN: u16 = 19;
}

/// In `ONLINE`'s number: the worker can hand connections back.
pub(crate) const OFFERS_HAND_BACK: u32 = 1;
/// In `ONLINE`'s number: the worker can accept in rotation.
pub(crate) const OFFERS_ROTATION: u32 = 2;
/// In `ONLINE`'s number: the worker knows of options that are set later, and of `SETTABLE`.
pub(crate) const OFFERS_OPTIONS: u32 = 4;
/// In a grant's kind: the primary accepts `SETSOCKOPT` for this listener.
const SETTABLE: u32 = 0x100;
/// In a grant's kind: the worker accepts nothing from the socket that all have before `BEGIN`.
const WAITS: u32 = 0x200;

/// Why a frame is not acceptable, as the end of a sentence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) &'static str);

/// The primary's first words to a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hello {
    pub(crate) version: u32,
    pub(crate) worker_id: u32,
    pub(crate) slot: u32,
    pub(crate) primary_pid: u32,
    pub(crate) nonce: u64,
}

/// What a worker sends on its channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FromWorker<'a> {
    Online { offers: u32, version: u32, nonce: u64, pid: u32 },
    Listen { number: u32, flags: u32, backlog: i32, index: u32, address: &'a str },
    Close { listener: u32 },
    Message(&'a [u8]),
    Load(u32),
    Disconnect,
    Signalled,
    Pause { listener: u32 },
    Resume { listener: u32 },
    Unseat { listener: u32 },
    Seat { listener: u32 },
    SetOption { number: u32, listener: u32, level: i32, name: i32, value: &'a [u8] },
}

/// What the primary sends on a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FromPrimary<'a> {
    Hello(Hello),
    Message(&'a [u8]),
    Disconnect,
}

/// The primary's answer to a listen, or to a socket option.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Answer<'a> {
    /// `settable`: the worker may set socket options later. `waits`: it is to accept nothing by itself before `BEGIN`.
    Grant {
        number: u32,
        listener: u32,
        mechanism: u32,
        datagram: bool,
        settable: bool,
        waits: bool,
        name: SockAddr,
    },
    /// The option is set.
    Done {
        number: u32,
    },
    Refusal {
        number: u32,
        code: i32,
        sentence: &'a str,
    },
}

/// What arrives in a mailbox, beside the connection itself.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Parcel {
    Connection(SockAddr),
    Nop,
    /// Its receiver accepts by itself from here on.
    Begin,
    Stop,
}

/// The header of a connection's parcel; the peer's address follows.
pub(crate) const CONNECTION_HEADER: [u8; HEADER] = header(kind::CONNECTION, 0);
/// The parcel that its receiver ignores.
pub(crate) const NOP: [u8; HEADER] = header(kind::NOP, 0);
/// The parcel that ends the time before which a worker accepts nothing by itself.
pub(crate) const BEGIN: [u8; HEADER] = header(kind::BEGIN, 0);
/// The last parcel of a mailbox.
pub(crate) const STOP: [u8; HEADER] = header(kind::STOP, 0);
/// Comes before the request to leave, with the socket by which its receiver may hand connections back.
pub(crate) const RETURNS: [u8; HEADER] = header(kind::RETURNS, 0);
/// What comes with a connection that is handed back on that socket; its listener's number follows.
const HANDBACK: [u8; HEADER] = header(kind::HANDBACK, 0);
/// The length of both.
pub(crate) const HANDBACK_LENGTH: usize = HEADER + 4;
/// The request to leave, in either direction.
pub(crate) const DISCONNECT: [u8; HEADER] = header(kind::DISCONNECT, 0);
/// The same from a worker whose program did not ask, but a signal.
pub(crate) const SIGNALLED: [u8; HEADER] = header(kind::DISCONNECT, 1);
/// The header of a message; the program's bytes follow.
pub(crate) const MESSAGE_HEADER: [u8; HEADER] = header(kind::MESSAGE, 0);

const fn header(kind: u16, number: u32) -> [u8; HEADER] {
    let k = kind.to_ne_bytes();
    let n = number.to_ne_bytes();
    [k[0], k[1], 0, 0, n[0], n[1], n[2], n[3]]
}

/// The words for a connection that was accepted from this listener and is handed back.
pub(crate) fn handback(listener: u32) -> [u8; HANDBACK_LENGTH] {
    let mut bytes = [0; HANDBACK_LENGTH];
    bytes[..HEADER].copy_from_slice(&HANDBACK);
    bytes[HEADER..].copy_from_slice(&listener.to_ne_bytes());
    bytes
}

/// From which listener a connection was accepted that came with these words.
pub(crate) fn listener_of_handback(bytes: &[u8]) -> Result<u32, Malformed> {
    let number = bytes.strip_prefix(&HANDBACK).ok_or(Malformed("something else where it hands connections back"))?;
    let number = number.try_into().map_err(|_| Malformed("a connection to hand back in a frame of a wrong length"))?;
    Ok(u32::from_ne_bytes(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_handed_back_names_its_listener() {
        assert_eq!(listener_of_handback(&handback(7)), Ok(7));
        assert!(listener_of_handback(&handback(7)[..11]).is_err());
        assert!(listener_of_handback(&[0; HANDBACK_LENGTH]).is_err());
        assert!(listener_of_handback(&FromWorker::Close { listener: 7 }.encode()).is_err());
    }
}
