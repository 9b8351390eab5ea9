//! Addresses: any text is one or is refused with a sentence; what is one is written back as the same; different ones have
//! different keys.

use super::Choices;
use super::frames::sound;
use crate::address::{ABSTRACT_NAME_MAX, ADDRESS_MAX, Address};
use crate::primary::key;
use crate::sys::sockaddr::SockAddr;

/// The bytes as text, as two texts, and as the kernel's form of an address.
pub fn address(bytes: &[u8]) {
    let sockaddr = SockAddr::from_bytes(bytes);
    sound(&sockaddr);
    unix(bytes);
    let text = String::from_utf8_lossy(bytes);
    let Some(first) = parse(&text) else { return };
    // A second one of almost the same text, which is where two keys would meet.
    let mut choices = Choices(bytes);
    let (place, letter, indices) = (choices.u32() as usize, choices.byte() & 0x7f, choices.array::<2>());
    let mut changed = text.into_owned();
    let place = (0..=place % (changed.len() + 1)).rev().find(|at| changed.is_char_boundary(*at)).unwrap_or(0);
    changed.insert(place, char::from(letter));
    let [index, other] = indices.map(u32::from);
    if let Some(second) = parse(&changed) {
        let same_index = index == other || !first.is_port_zero();
        assert_eq!(key(&first, index) == key(&second, other), first == second && same_index, "{first} {second}");
    }
    assert_eq!(key(&first, index) == key(&first, other), index == other || !first.is_port_zero());
}

fn parse(text: &str) -> Option<Address> {
    match Address::parse(text) {
        Ok(address) => {
            let written = address.to_string();
            assert_eq!(Address::parse(&written).as_ref(), Ok(&address), "{text} was written as {written}");
            assert!(written.len() <= ADDRESS_MAX, "{written} can be asked for, but not sent");
            if let Address::UnixAbstract(name) = &address {
                assert!((1..=ABSTRACT_NAME_MAX).contains(&name.len()));
            }
            Some(address)
        }
        Err(error) => {
            assert!(error.code() == -libc::EINVAL && !error.sentence().is_empty());
            None
        }
    }
}

/// sun_path has 108 bytes; a path ends with a NUL of its own, an abstract name begins with one.
fn unix(name: &[u8]) {
    let is_abstract = name.first() == Some(&0);
    match SockAddr::unix(name) {
        None => assert!(name.len() > if is_abstract { 108 } else { 107 }),
        Some(address) => {
            assert_eq!(address.family(), libc::AF_UNIX);
            assert_eq!(address.to_inet(), None);
            let path = &address.as_bytes()[size_of::<libc::sa_family_t>()..];
            assert_eq!(path.strip_suffix(if is_abstract { b"".as_slice() } else { b"\0" }), Some(name));
        }
    }
}
