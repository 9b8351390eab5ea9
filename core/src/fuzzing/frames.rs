//! The decoders: what decodes encodes to the same bytes, and what is encoded decodes to the same frame.

use super::Choices;
use crate::address::ADDRESS_MAX;
use crate::options::VALUE_MAX;
use crate::sys::sockaddr::{SOCKADDR_MAX, SockAddr};
use crate::wire::{self, Answer, FRAME_MAX, FromPrimary, FromWorker, Hello, MESSAGE_HEADER, MESSAGE_MAX, Parcel};

/// A frame's number, from this offset to the end of the header, has a meaning in a few only.
const NUMBER: usize = 4;
const BODY: usize = 8;

/// One packet, as each of the two sides may find it in each of its sockets, and frames made of its bytes.
pub fn frames(bytes: &[u8]) {
    from_worker(bytes);
    from_primary(bytes);
    answer(bytes);
    parcel(bytes);
    // Bytes that every decoder refuses at once are good for something else.
    if bytes.get(2).is_some_and(|reserved| *reserved != 0) {
        made_of(&mut Choices(bytes));
    }
}

#[track_caller]
fn same(again: &[u8], bytes: &[u8], has_number: bool) {
    assert!(bytes.len() <= FRAME_MAX);
    if has_number {
        assert_eq!(again, bytes);
    } else {
        assert_eq!((&again[..NUMBER], &again[BODY..]), (&bytes[..NUMBER], &bytes[BODY..]));
    }
}

fn from_worker(bytes: &[u8]) {
    let Ok(frame) = FromWorker::decode(bytes) else { return };
    if let FromWorker::Listen { address, .. } = frame {
        assert!((1..=ADDRESS_MAX).contains(&address.len()) && !address.contains('\0'));
    }
    if let FromWorker::SetOption { value, .. } = frame {
        assert!(value.len() <= VALUE_MAX);
    }
    let has_number = matches!(
        frame,
        FromWorker::Listen { .. } | FromWorker::Online { .. } | FromWorker::SetOption { .. } | FromWorker::Signalled
    );
    same(&frame.encode(), bytes, has_number);
}

fn from_primary(bytes: &[u8]) {
    match FromPrimary::decode(bytes) {
        Err(_) => {}
        Ok(FromPrimary::Hello(hello)) => same(&hello.encode(), bytes, false),
        Ok(FromPrimary::Message(message)) => same(&[&MESSAGE_HEADER, message].concat(), bytes, false),
        Ok(FromPrimary::Disconnect) => same(&wire::DISCONNECT, bytes, false),
    }
}

fn answer(bytes: &[u8]) {
    let Ok(answer) = Answer::decode(bytes) else { return };
    match answer {
        Answer::Refusal { code, sentence, .. } => assert!(code < 0 && !sentence.contains('\0')),
        Answer::Grant { name, .. } => sound(&name),
        Answer::Done { .. } => {}
    }
    same(&answer.encode(), bytes, true);
}

fn parcel(bytes: &[u8]) {
    match Parcel::decode(bytes) {
        Err(_) => {}
        Ok(Parcel::Connection(peer)) => {
            sound(&peer);
            same(&[&wire::CONNECTION_HEADER, peer.as_bytes()].concat(), bytes, false);
        }
        Ok(Parcel::Nop) => same(&wire::NOP, bytes, false),
        Ok(Parcel::Begin) => same(&wire::BEGIN, bytes, false),
        Ok(Parcel::Stop) => same(&wire::STOP, bytes, false),
    }
}

/// An address that a peer made up can be looked at like any other.
pub(super) fn sound(address: &SockAddr) {
    assert!(address.as_bytes().len() <= SOCKADDR_MAX);
    if let Some(inet) = address.to_inet() {
        assert_eq!(
            SockAddr::from(inet).to_inet().map(|again| (again.ip(), again.port())),
            Some((inet.ip(), inet.port()))
        );
    }
    assert!(!format!("{address:?}").is_empty());
}

fn made_of(choices: &mut Choices) {
    let (which, a, b, c) = (choices.byte(), choices.u32(), choices.u32(), choices.u32());
    let rest = choices.0;
    let text = String::from_utf8_lossy(rest);
    let worker = match which % 11 {
        0 => FromWorker::Online { offers: b ^ c, version: a, nonce: u64::from(b) << 32 | u64::from(c), pid: c },
        1 => FromWorker::Listen { number: a, flags: b, backlog: c as i32, index: a ^ c, address: &text },
        2 => FromWorker::Close { listener: a },
        3 => FromWorker::Message(rest),
        4 => FromWorker::Load(a),
        5 => FromWorker::Disconnect,
        6 => FromWorker::Pause { listener: a },
        7 => FromWorker::Resume { listener: a },
        8 => FromWorker::Unseat { listener: a },
        9 => FromWorker::Signalled,
        _ => FromWorker::SetOption { number: c, listener: a, level: b as i32, name: c as i32, value: rest },
    };
    match (FromWorker::decode(&worker.encode()), worker) {
        (Ok(again), _) => assert_eq!(again, worker),
        (Err(_), FromWorker::Listen { address, .. }) => {
            assert!(address.is_empty() || address.len() > ADDRESS_MAX || address.contains('\0'));
        }
        (Err(_), FromWorker::Message(message)) => assert!(message.len() > MESSAGE_MAX),
        (Err(_), FromWorker::SetOption { value, .. }) => assert!(value.len() > VALUE_MAX),
        (Err(malformed), _) => panic!("{worker:?}: {malformed:?}"),
    }
    let hello =
        Hello { version: a, worker_id: b, slot: c, primary_pid: a ^ b, nonce: u64::from(a) << 32 | u64::from(c) };
    assert_eq!(FromPrimary::decode(&hello.encode()), Ok(FromPrimary::Hello(hello)));
    // Whatever sentence an error has, the refusal that carries it can be read. No text of the wire's holds a NUL.
    let text = text.replace('\0', " ");
    let refusal = Answer::Refusal { number: a, code: -1 - (b >> 1) as i32, sentence: &text }.encode();
    match Answer::decode(&refusal) {
        Ok(Answer::Refusal { number, sentence, .. }) => assert!(number == a && text.starts_with(sentence)),
        other => panic!("a refusal became {other:?}"),
    }
    let name = SockAddr::from_bytes(rest);
    let [datagram, settable, waits] = [128, 64, 32].map(|bit| which & bit != 0);
    let grant = Answer::Grant { number: a, listener: b, mechanism: c, datagram, settable, waits, name };
    assert_eq!(Answer::decode(&grant.encode()).map(|again| again.encode()), Ok(grant.encode()));
}
