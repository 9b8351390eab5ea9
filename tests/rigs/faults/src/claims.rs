//! What workers say that they took: the file of tests/rigs/faults/README.md.

use std::path::Path;

use cluster_bench::error::{Result, failed};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Accepted,
    Read,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    pub kind: Kind,
    pub pid: u32,
    pub worker: u32,
    /// The client's.
    pub port: u16,
    pub time: u64,
    /// 0 where only the connection was taken yet.
    pub id: u64,
}

const SIZE: usize = 32;

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// A u64 at that place; `bytes` is long enough.
pub fn long(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_ne_bytes(word)
}

/// None: no claim at all, which is as bad as a lost one.
fn parse(bytes: &[u8]) -> Option<Claim> {
    let kind = match word(bytes, 0) {
        1 => Kind::Accepted,
        2 => Kind::Read,
        _ => return None,
    };
    let port = u16::try_from(word(bytes, 12)).ok()?;
    Some(Claim { kind, pid: word(bytes, 4), worker: word(bytes, 8), port, time: long(bytes, 16), id: long(bytes, 24) })
}

pub fn parse_all(bytes: &[u8]) -> Result<Vec<Claim>> {
    let claims: Option<Vec<Claim>> = bytes.chunks_exact(SIZE).map(parse).collect();
    match claims {
        Some(claims) if bytes.len().is_multiple_of(SIZE) => Ok(claims),
        _ => Err(failed("claims")("the file is damaged")),
    }
}

pub fn read(path: &Path) -> Result<Vec<Claim>> {
    parse_all(&std::fs::read(path).map_err(failed("the file of claims"))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_are_read_as_a_worker_writes_them() {
        let mut bytes = Vec::new();
        for word in [2u32, 77, 3, 4567] {
            bytes.extend_from_slice(&word.to_ne_bytes());
        }
        for long in [1_000_000_007u64, 0x0200_0000_0000_002a] {
            bytes.extend_from_slice(&long.to_ne_bytes());
        }
        let claim =
            Claim { kind: Kind::Read, pid: 77, worker: 3, port: 4567, time: 1_000_000_007, id: 0x0200_0000_0000_002a };
        assert_eq!(parse_all(&bytes).unwrap(), [claim]);
        assert!(parse_all(&bytes[..31]).is_err());
        bytes[0] = 9;
        assert!(parse_all(&bytes).is_err());
    }
}
