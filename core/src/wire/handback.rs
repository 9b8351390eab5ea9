//! What comes with a connection that is handed back: of which listener it is.

use super::{HEADER, Malformed, header, kind};

/// How long it is.
pub(crate) const HANDBACK_LENGTH: usize = HEADER + 4;

const HANDBACK: [u8; HEADER] = header(kind::HANDBACK, 0);

pub(crate) fn handback(listener: u32) -> [u8; HANDBACK_LENGTH] {
    let mut bytes = [0; HANDBACK_LENGTH];
    bytes[..HEADER].copy_from_slice(&HANDBACK);
    bytes[HEADER..].copy_from_slice(&listener.to_ne_bytes());
    bytes
}

pub(crate) fn listener_of_handback(bytes: &[u8]) -> Result<u32, Malformed> {
    let number = bytes.strip_prefix(&HANDBACK).ok_or(Malformed("something else where it hands connections back"))?;
    let number = number.try_into().map_err(|_| Malformed("a connection to hand back in a frame of a wrong length"))?;
    Ok(u32::from_ne_bytes(number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::FromWorker;

    #[test]
    fn it_survives_the_way() {
        assert_eq!(listener_of_handback(&handback(7)), Ok(7));
        assert!(listener_of_handback(&handback(7)[..11]).is_err());
        assert!(listener_of_handback(&[0; HANDBACK_LENGTH]).is_err());
        assert!(listener_of_handback(&FromWorker::Close { listener: 7 }.encode()).is_err());
    }
}
