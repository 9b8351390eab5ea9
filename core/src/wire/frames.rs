//! Words to bytes and back.
//!
//! A decoder never believes a length, allocates nothing from one, and rejects what the table does not allow.

use super::{
    Answer, DISCONNECT, FromPrimary, FromWorker, Hello, MAGIC, MESSAGE_MAX, Malformed, Parcel, SENTENCE_MAX, SETTABLE,
    SIGNALLED, WAITS, header, kind,
};
use crate::address::ADDRESS_MAX;
use crate::options::VALUE_MAX;
use crate::sys::sockaddr::{SOCKADDR_MAX, SockAddr};

fn frame(kind: u16, number: u32, parts: &[&[u8]]) -> Vec<u8> {
    let mut bytes = header(kind, number).to_vec();
    for part in parts {
        bytes.extend_from_slice(part);
    }
    bytes
}

impl Hello {
    pub(crate) fn encode(&self) -> Vec<u8> {
        frame(
            kind::HELLO,
            0,
            &[
                &MAGIC,
                &self.version.to_ne_bytes(),
                &self.worker_id.to_ne_bytes(),
                &self.slot.to_ne_bytes(),
                &self.primary_pid.to_ne_bytes(),
                &self.nonce.to_ne_bytes(),
            ],
        )
    }
}

impl FromWorker<'_> {
    /// Every frame but a message, whose bytes are not copied (see `MESSAGE_HEADER`).
    pub(crate) fn encode(&self) -> Vec<u8> {
        match *self {
            FromWorker::Online { offers, version, nonce, pid } => {
                frame(kind::ONLINE, offers, &[&version.to_ne_bytes(), &pid.to_ne_bytes(), &nonce.to_ne_bytes()])
            }
            FromWorker::Listen { number, flags, backlog, index, address } => frame(
                kind::LISTEN,
                number,
                &[&flags.to_ne_bytes(), &backlog.to_ne_bytes(), &index.to_ne_bytes(), address.as_bytes()],
            ),
            FromWorker::Close { listener } => frame(kind::CLOSE, 0, &[&listener.to_ne_bytes()]),
            FromWorker::Message(bytes) => frame(kind::MESSAGE, 0, &[bytes]),
            FromWorker::Load(load) => frame(kind::LOAD, 0, &[&load.to_ne_bytes()]),
            FromWorker::Disconnect => DISCONNECT.to_vec(),
            FromWorker::Signalled => SIGNALLED.to_vec(),
            FromWorker::Pause { listener } => frame(kind::PAUSE, 0, &[&listener.to_ne_bytes()]),
            FromWorker::Resume { listener } => frame(kind::RESUME, 0, &[&listener.to_ne_bytes()]),
            FromWorker::Unseat { listener } => frame(kind::UNSEAT, 0, &[&listener.to_ne_bytes()]),
            FromWorker::Seat { listener } => frame(kind::SEAT, 0, &[&listener.to_ne_bytes()]),
            FromWorker::SetOption { number, listener, level, name, value } => frame(
                kind::SETSOCKOPT,
                number,
                &[&listener.to_ne_bytes(), &level.to_ne_bytes(), &name.to_ne_bytes(), value],
            ),
        }
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<FromWorker<'_>, Malformed> {
        let (kind, number, mut body) = open(bytes)?;
        let frame = match kind {
            kind::ONLINE => {
                FromWorker::Online { offers: number, version: body.u32()?, pid: body.u32()?, nonce: body.u64()? }
            }
            kind::LISTEN => FromWorker::Listen {
                number,
                flags: body.u32()?,
                backlog: body.u32()? as i32,
                index: body.u32()?,
                address: body.text(1, ADDRESS_MAX)?,
            },
            kind::CLOSE => FromWorker::Close { listener: body.u32()? },
            kind::MESSAGE => FromWorker::Message(body.rest(MESSAGE_MAX)?),
            kind::LOAD => FromWorker::Load(body.u32()?),
            kind::DISCONNECT if number == 1 => FromWorker::Signalled,
            kind::DISCONNECT => FromWorker::Disconnect,
            kind::PAUSE => FromWorker::Pause { listener: body.u32()? },
            kind::RESUME => FromWorker::Resume { listener: body.u32()? },
            kind::UNSEAT => FromWorker::Unseat { listener: body.u32()? },
            kind::SEAT => FromWorker::Seat { listener: body.u32()? },
            kind::SETSOCKOPT => FromWorker::SetOption {
                number,
                listener: body.u32()?,
                level: body.u32()? as i32,
                name: body.u32()? as i32,
                value: body.rest(VALUE_MAX)?,
            },
            _ => return Err(Malformed("a frame of a type that no worker sends")),
        };
        body.end()?;
        Ok(frame)
    }
}

impl FromPrimary<'_> {
    pub(crate) fn decode(bytes: &[u8]) -> Result<FromPrimary<'_>, Malformed> {
        let (kind, _, mut body) = open(bytes)?;
        let frame = match kind {
            kind::HELLO => {
                if body.take(MAGIC.len())? != MAGIC {
                    return Err(Malformed("a hello without the magic"));
                }
                FromPrimary::Hello(Hello {
                    version: body.u32()?,
                    worker_id: body.u32()?,
                    slot: body.u32()?,
                    primary_pid: body.u32()?,
                    nonce: body.u64()?,
                })
            }
            kind::MESSAGE => FromPrimary::Message(body.rest(MESSAGE_MAX)?),
            kind::DISCONNECT => FromPrimary::Disconnect,
            _ => {
                return Err(Malformed("a frame of a type that no primary sends on a channel"));
            }
        };
        body.end()?;
        Ok(frame)
    }
}

impl Answer<'_> {
    pub(crate) fn encode(&self) -> Vec<u8> {
        match self {
            Answer::Grant { number, listener, mechanism, datagram, settable, waits, name } => frame(
                kind::GRANT,
                *number,
                &[
                    &0_i32.to_ne_bytes(),
                    &listener.to_ne_bytes(),
                    &mechanism.to_ne_bytes(),
                    &kind_of_grant(*datagram, *settable, *waits).to_ne_bytes(),
                    name.as_bytes(),
                ],
            ),
            Answer::Done { number } => frame(kind::GRANT, *number, &[&0_i32.to_ne_bytes()]),
            Answer::Refusal { number, code, sentence } => {
                let end = sentence.floor_char_boundary_at(SENTENCE_MAX);
                frame(kind::GRANT, *number, &[&code.to_ne_bytes(), &sentence.as_bytes()[..end]])
            }
        }
    }

    /// The number of the question.
    pub(crate) fn number(&self) -> u32 {
        match *self {
            Answer::Grant { number, .. } | Answer::Done { number } | Answer::Refusal { number, .. } => number,
        }
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Answer<'_>, Malformed> {
        let (kind, number, mut body) = open(bytes)?;
        if kind != kind::GRANT {
            return Err(Malformed("a frame of a type that is no answer to a listen"));
        }
        let code = body.u32()? as i32;
        if code < 0 {
            return Ok(Answer::Refusal { number, code, sentence: body.text(0, SENTENCE_MAX)? });
        }
        if code > 0 {
            return Err(Malformed("an answer that neither grants nor refuses"));
        }
        if body.end().is_ok() {
            return Ok(Answer::Done { number });
        }
        let listener = body.u32()?;
        let mechanism = body.u32()?;
        let kind = body.u32()?;
        let datagram = match kind & !(SETTABLE | WAITS) {
            1 => false,
            2 => true,
            _ => return Err(Malformed("a grant of an unknown kind of socket")),
        };
        Ok(Answer::Grant {
            number,
            listener,
            mechanism,
            datagram,
            settable: kind & SETTABLE != 0,
            waits: kind & WAITS != 0,
            name: SockAddr::from_bytes(body.rest(SOCKADDR_MAX)?),
        })
    }
}

impl Parcel {
    pub(crate) fn decode(bytes: &[u8]) -> Result<Parcel, Malformed> {
        let (kind, _, mut body) = open(bytes)?;
        match kind {
            kind::CONNECTION => Ok(Parcel::Connection(SockAddr::from_bytes(body.rest(SOCKADDR_MAX)?))),
            kind::NOP => body.end().map(|()| Parcel::Nop),
            kind::BEGIN => body.end().map(|()| Parcel::Begin),
            kind::STOP => body.end().map(|()| Parcel::Stop),
            _ => Err(Malformed("a frame of a type that no mailbox holds")),
        }
    }
}

fn kind_of_grant(datagram: bool, settable: bool, waits: bool) -> u32 {
    let flag = |set: bool, flag: u32| if set { flag } else { 0 };
    1 + u32::from(datagram) + flag(settable, SETTABLE) + flag(waits, WAITS)
}

trait FloorCharBoundary {
    fn floor_char_boundary_at(&self, limit: usize) -> usize;
}

impl FloorCharBoundary for str {
    fn floor_char_boundary_at(&self, limit: usize) -> usize {
        (0..=limit.min(self.len())).rev().find(|index| self.is_char_boundary(*index)).unwrap_or(0)
    }
}

fn open(bytes: &[u8]) -> Result<(u16, u32, Body<'_>), Malformed> {
    let mut body = Body(bytes);
    let first = body.u32()?.to_ne_bytes();
    if first[2..] != [0, 0] {
        return Err(Malformed("a frame whose reserved bytes are not zero"));
    }
    Ok((u16::from_ne_bytes([first[0], first[1]]), body.u32()?, body))
}

/// What is left of a frame's body.
struct Body<'a>(&'a [u8]);

impl<'a> Body<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Malformed("a frame that is too short"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn u32(&mut self) -> Result<u32, Malformed> {
        let bytes = self.take(4)?.try_into().map_err(|_| Malformed("a frame that is too short"))?;
        Ok(u32::from_ne_bytes(bytes))
    }

    fn u64(&mut self) -> Result<u64, Malformed> {
        let bytes = self.take(8)?.try_into().map_err(|_| Malformed("a frame that is too short"))?;
        Ok(u64::from_ne_bytes(bytes))
    }

    fn rest(&mut self, most: usize) -> Result<&'a [u8], Malformed> {
        if self.0.len() > most {
            return Err(Malformed("a frame that is too long"));
        }
        self.take(self.0.len())
    }

    fn text(&mut self, least: usize, most: usize) -> Result<&'a str, Malformed> {
        let bytes = self.rest(most)?;
        if bytes.len() < least || bytes.contains(&0) {
            return Err(Malformed("a frame whose text is empty or holds a NUL"));
        }
        std::str::from_utf8(bytes).map_err(|_| Malformed("a frame whose text is not UTF-8"))
    }

    fn end(&self) -> Result<(), Malformed> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed("a frame that is too long")) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{OFFERS_OPTIONS, STOP};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_frame_of_a_worker_survives_the_way() {
        let frames = [
            FromWorker::Online { offers: OFFERS_OPTIONS, version: 1, nonce: u64::MAX, pid: 7 },
            FromWorker::Listen { number: 9, flags: 36, backlog: -1, index: 2, address: "127.0.0.1:0" },
            FromWorker::Close { listener: 3 },
            FromWorker::Message(b""),
            FromWorker::Message(b"hello"),
            FromWorker::Load(5),
            FromWorker::Pause { listener: 3 },
            FromWorker::Resume { listener: 3 },
            FromWorker::Disconnect,
            FromWorker::SetOption { number: 9, listener: 3, level: -1, name: i32::MIN, value: b"" },
            FromWorker::SetOption { number: 9, listener: 3, level: 6, name: 1, value: &[1; VALUE_MAX] },
            FromWorker::Signalled,
            FromWorker::Unseat { listener: 3 },
            FromWorker::Seat { listener: 3 },
        ];
        for frame in frames {
            assert_eq!(FromWorker::decode(&frame.encode()), Ok(frame));
        }
    }

    #[test]
    fn every_frame_of_the_primary_survives_the_way() {
        let hello = Hello { version: 1, worker_id: 4, slot: 3, primary_pid: 2, nonce: 1 };
        assert_eq!(FromPrimary::decode(&hello.encode()), Ok(FromPrimary::Hello(hello)));
        assert_eq!(FromPrimary::decode(&DISCONNECT), Ok(FromPrimary::Disconnect));
        let name = SockAddr::from("127.0.0.1:80".parse::<std::net::SocketAddr>().unwrap());
        for (settable, waits) in [(false, false), (true, false), (false, true), (true, true)] {
            let grant =
                Answer::Grant { number: 1, listener: 2, mechanism: 3, datagram: true, settable, waits, name }.encode();
            match Answer::decode(&grant).unwrap() {
                Answer::Grant {
                    number: 1,
                    listener: 2,
                    mechanism: 3,
                    datagram: true,
                    settable: s,
                    waits: w,
                    name: n,
                } => {
                    assert_eq!((s, w, n.to_inet()), (settable, waits, name.to_inet()));
                }
                other => panic!("{other:?}"),
            }
        }
        match Answer::decode(&Answer::Done { number: 7 }.encode()).unwrap() {
            Answer::Done { number: 7 } => {}
            other => panic!("{other:?}"),
        }
        match Answer::decode(&Answer::Refusal { number: 1, code: -98, sentence: "in use" }.encode()).unwrap() {
            Answer::Refusal { number: 1, code: -98, sentence: "in use" } => {}
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_long_sentence_is_cut_between_characters() {
        let sentence = "\u{e9}".repeat(SENTENCE_MAX);
        let bytes = Answer::Refusal { number: 1, code: -1, sentence: &sentence }.encode();
        assert!(matches!(Answer::decode(&bytes), Ok(Answer::Refusal { .. })));
    }

    #[test]
    fn what_the_table_forbids_is_malformed() {
        assert!(FromWorker::decode(&[]).is_err());
        assert!(FromWorker::decode(&STOP).is_err());
        assert!(FromWorker::decode(&[7, 0, 1, 0, 0, 0, 0, 0]).is_err(), "reserved bytes");
        assert!(FromWorker::decode(&frame(kind::DISCONNECT, 0, &[b"x"])).is_err(), "too long");
        assert!(FromWorker::decode(&frame(kind::LISTEN, 0, &[&[0; 12]])).is_err(), "no address");
        assert!(FromWorker::decode(&frame(kind::MESSAGE, 0, &[&[0; MESSAGE_MAX + 1]])).is_err());
        assert!(FromPrimary::decode(&frame(kind::HELLO, 0, &[&[0; 32]])).is_err(), "magic");
        assert!(Parcel::decode(&frame(kind::CONNECTION, 0, &[&[0; SOCKADDR_MAX + 1]])).is_err());
        let grant = [0_u32, 1, 1, 1].map(u32::to_ne_bytes).concat();
        assert!(Answer::decode(&frame(kind::GRANT, 0, &[&grant])).is_ok());
        assert!(Answer::decode(&frame(kind::GRANT, 0, &[&grant[..8]])).is_err(), "half a grant");
        let unknown = [0_u32, 1, 1, 0x401].map(u32::to_ne_bytes).concat();
        assert!(Answer::decode(&frame(kind::GRANT, 0, &[&unknown])).is_err(), "an unknown bit");
        assert!(FromWorker::decode(&frame(kind::SETSOCKOPT, 0, &[&[0; 11]])).is_err(), "half an option");
        assert!(FromWorker::decode(&frame(kind::SETSOCKOPT, 0, &[&[0; 12 + VALUE_MAX + 1]])).is_err());
        assert!(
            Answer::decode(&frame(kind::GRANT, 0, &[&1_i32.to_ne_bytes(), &grant[4..]])).is_err(),
            "a positive code"
        );
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_decoder_fail_otherwise_than_by_saying_so(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = FromWorker::decode(&bytes);
            let _ = FromPrimary::decode(&bytes);
            let _ = Answer::decode(&bytes);
            let _ = Parcel::decode(&bytes);
        }

        #[test]
        fn what_decodes_encodes_to_the_same_bytes(mut bytes in proptest::collection::vec(any::<u8>(), 8..64), kind in 1_u16..20) {
            bytes[..2].copy_from_slice(&kind.to_ne_bytes());
            bytes[2..4].copy_from_slice(&[0, 0]);
            if let Ok(frame) = FromWorker::decode(&bytes) {
                let again = frame.encode();
                // The number of some means something; elsewhere it is ignored.
                prop_assert_eq!(&again[8..], &bytes[8..]);
            }
        }
    }
}
