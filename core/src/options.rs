//! Which options of a listening socket may be set for a worker, and how they travel: pure, without I/O.
// Work in progress: nothing calls this yet.
#![cfg_attr(not(test), allow(dead_code))]

use libc::{IPPROTO_IP, IPPROTO_IPV6, IPPROTO_TCP, SOL_SOCKET};

use crate::error::{Error, Result};

/// What a buffer may be asked to hold: more is memory of the kernel's for every connection.
const BUFFER_MOST: i32 = 4 << 20;

/// Level, name, what it is called, least, most. Each value is an int.
const ALLOWED: [(i32, i32, &str, i32, i32); 13] = [
    (SOL_SOCKET, libc::SO_KEEPALIVE, "SO_KEEPALIVE", 0, 1),
    (SOL_SOCKET, libc::SO_RCVBUF, "SO_RCVBUF", 1, BUFFER_MOST),
    (SOL_SOCKET, libc::SO_SNDBUF, "SO_SNDBUF", 1, BUFFER_MOST),
    (IPPROTO_TCP, libc::TCP_NODELAY, "TCP_NODELAY", 0, 1),
    (IPPROTO_TCP, libc::TCP_KEEPIDLE, "TCP_KEEPIDLE", 1, 32767),
    (IPPROTO_TCP, libc::TCP_KEEPINTVL, "TCP_KEEPINTVL", 1, 32767),
    (IPPROTO_TCP, libc::TCP_KEEPCNT, "TCP_KEEPCNT", 1, 127),
    (IPPROTO_TCP, libc::TCP_USER_TIMEOUT, "TCP_USER_TIMEOUT", 0, i32::MAX),
    (IPPROTO_TCP, libc::TCP_FASTOPEN, "TCP_FASTOPEN", 0, 65535),
    (IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, "TCP_DEFER_ACCEPT", 0, 3600),
    (IPPROTO_TCP, libc::TCP_MAXSEG, "TCP_MAXSEG", 88, 32767),
    (IPPROTO_IP, libc::IP_TOS, "IP_TOS", 0, 255),
    (IPPROTO_IPV6, libc::IPV6_TCLASS, "IPV6_TCLASS", -1, 255),
];

/// An option that was judged; its value is an int.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Judged {
    pub(crate) level: i32,
    pub(crate) name: i32,
    pub(crate) value: i32,
    pub(crate) called: &'static str,
}

/// Whether a worker may set this, and to this.
pub(crate) fn judge(level: i32, name: i32, value: &[u8]) -> Result<Judged> {
    let Some(&(.., called, least, most)) = ALLOWED.iter().find(|allowed| (allowed.0, allowed.1) == (level, name))
    else {
        return Err(Error::new(
            -libc::EACCES,
            format!(
                "the option {name} of level {level} is not one that workers may set; set it on connections instead"
            ),
        ));
    };
    let Ok(bytes) = <[u8; 4]>::try_from(value) else {
        return Err(Error::invalid(format!("the value of {called} has {} bytes; it is an int of 4", value.len())));
    };
    let value = i32::from_ne_bytes(bytes);
    if !(least..=most).contains(&value) {
        return Err(Error::invalid(format!("{called} may be {least} to {most}, not {value}")));
    }
    Ok(Judged { level, name, value, called })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_and_lengths_are_exact() {
        for (level, name, called, least, most) in ALLOWED {
            for value in [least, most] {
                let judged = judge(level, name, &value.to_ne_bytes()).unwrap();
                assert_eq!(judged, Judged { level, name, value, called });
            }
            for value in [least.checked_sub(1), most.checked_add(1)].into_iter().flatten() {
                assert!(judge(level, name, &value.to_ne_bytes()).unwrap_err().is(libc::EINVAL), "{called} {value}");
            }
            for length in [0, 1, 3, 5, 8] {
                assert!(judge(level, name, &vec![0; length]).unwrap_err().is(libc::EINVAL), "{called}");
            }
        }
    }

    #[test]
    fn what_is_not_listed_is_refused() {
        for name in [libc::SO_MARK, libc::SO_REUSEPORT, libc::SO_RCVBUFFORCE, libc::SO_ATTACH_BPF, libc::SO_LINGER] {
            assert!(judge(SOL_SOCKET, name, &[0; 4]).unwrap_err().is(libc::EACCES));
        }
        assert!(judge(IPPROTO_TCP, libc::TCP_CONGESTION, b"reno").unwrap_err().is(libc::EACCES));
    }
}
