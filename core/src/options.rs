//! Which options of a listening socket may be set for a worker, and how they travel.
use std::borrow::Cow;
use std::fmt::Write;
use std::os::fd::BorrowedFd;

use libc::{IPPROTO_IP, IPPROTO_IPV6, IPPROTO_TCP, SOL_SOCKET};

use crate::error::{Error, Result};
use crate::sys::{Sys, socket};

/// The largest buffer that a worker may ask for, since it costs kernel memory for every connection.
const BUFFER_MOST: i32 = 4 << 20;

/// The most options of one listen.
pub(crate) const OPTIONS_MAX: usize = 32;

/// The most bytes of one option's value.
pub(crate) const VALUE_MAX: usize = 256;

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

/// An option of a socket, as setsockopt(2) takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketOption {
    /// SOL_SOCKET, IPPROTO_TCP, ...
    pub level: i32,
    /// SO_KEEPALIVE, TCP_NODELAY, ...
    pub name: i32,
    /// The value's bytes.
    pub value: Vec<u8>,
}

impl SocketOption {
    /// Sets it on a socket.
    pub(crate) fn set_on(&self, socket: BorrowedFd) -> Sys<()> {
        socket::set_any(socket, self.level, self.name, &self.value)
    }

    /// What a sentence calls it.
    pub(crate) fn called(&self) -> Cow<'static, str> {
        match ALLOWED.iter().find(|allowed| (allowed.0, allowed.1) == (self.level, self.name)) {
            Some(&(_, _, called, ..)) => called.into(),
            None => format!("the option {} of level {}", self.name, self.level).into(),
        }
    }
}

/// An error if a worker may not set this option, or not to this value.
pub(crate) fn judge(option: &SocketOption) -> Result<()> {
    let &SocketOption { level, name, ref value } = option;
    let Some(&(.., called, least, most)) = ALLOWED.iter().find(|allowed| (allowed.0, allowed.1) == (level, name))
    else {
        return Err(Error::new(
            -libc::EACCES,
            format!(
                "the option {name} of level {level} is not one that workers may set on a shared address; set it on each \
                 connection, or listen with CL_LISTEN_EXCLUSIVE"
            ),
        ));
    };
    let Ok(bytes) = <[u8; 4]>::try_from(value.as_slice()) else {
        return Err(Error::invalid(format!("the value of {called} has {} bytes; it is an int of 4", value.len())));
    };
    let value = i32::from_ne_bytes(bytes);
    if !(least..=most).contains(&value) {
        return Err(Error::invalid(format!("{called} may be {least} to {most}, not {value}")));
    }
    Ok(())
}

/// Refuses more options than a listen may have.
pub(crate) fn check_count(options: &[SocketOption]) -> Result<()> {
    match options.len() <= OPTIONS_MAX {
        true => Ok(()),
        false => {
            Err(Error::invalid(format!("there are {} options; at most {OPTIONS_MAX} are possible", options.len())))
        }
    }
}

/// Refuses a value that is longer than any may be.
pub(crate) fn check_value(option: &SocketOption) -> Result<()> {
    match option.value.len() <= VALUE_MAX {
        true => Ok(()),
        false => Err(Error::invalid(format!(
            "the value of {} has {} bytes; at most {VALUE_MAX} are possible",
            option.called(),
            option.value.len()
        ))),
    }
}

/// The error of an option for `fd:N`.
pub(crate) fn of_another(address: &str) -> Error {
    Error::new(
        -libc::EOPNOTSUPP,
        format!("\"{address}\" is another's socket, whose options are its maker's; set them before it is handed over"),
    )
}

/// Options and address as one text: a line for each option, then the address. No address begins like that, so a primary that knows of no
/// options refuses it as an address.
pub(crate) fn before(address: &str, options: &[SocketOption]) -> String {
    let mut text = String::new();
    for SocketOption { level, name, value } in options {
        let _ = write!(text, "{level} {name} ");
        for byte in value {
            let _ = write!(text, "{byte:02x}");
        }
        text.push('\n');
    }
    text + address
}

/// The options in front of an address, and the address.
pub(crate) fn split(text: &str) -> Result<(Vec<SocketOption>, &str)> {
    let (mut options, mut rest) = (Vec::new(), text);
    while let Some((line, behind)) = rest.split_once('\n')
        && let Some(option) = parse(line)
    {
        options.push(option);
        check_count(&options)?;
        rest = behind;
    }
    Ok((options, rest))
}

fn parse(line: &str) -> Option<SocketOption> {
    let mut words = line.split(' ');
    let (level, name, hex) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?, words.next()?);
    if words.next().is_some() || !hex.len().is_multiple_of(2) || !hex.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let value: std::result::Result<Vec<u8>, _> =
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16)).collect();
    Some(SocketOption { level, name, value: value.ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::Address;

    fn judged(level: i32, name: i32, value: &[u8]) -> Result<()> {
        judge(&SocketOption { level, name, value: value.to_vec() })
    }

    #[test]
    fn bounds_and_lengths_are_exact() {
        for (level, name, called, least, most) in ALLOWED {
            for value in [least, most] {
                judged(level, name, &value.to_ne_bytes()).unwrap();
            }
            for value in [least.checked_sub(1), most.checked_add(1)].into_iter().flatten() {
                assert!(judged(level, name, &value.to_ne_bytes()).unwrap_err().is(libc::EINVAL), "{called} {value}");
            }
            for length in [0, 1, 3, 5, 8] {
                assert!(judged(level, name, &vec![0; length]).unwrap_err().is(libc::EINVAL), "{called}");
            }
        }
    }

    #[test]
    fn what_is_not_listed_is_refused() {
        for name in [libc::SO_MARK, libc::SO_REUSEPORT, libc::SO_RCVBUFFORCE, libc::SO_ATTACH_BPF, libc::SO_LINGER] {
            assert!(judged(SOL_SOCKET, name, &[0; 4]).unwrap_err().is(libc::EACCES));
        }
        assert!(judged(IPPROTO_TCP, libc::TCP_CONGESTION, b"reno").unwrap_err().is(libc::EACCES));
    }

    #[test]
    fn options_survive_the_way_and_are_no_address() {
        let options = [
            SocketOption { level: 6, name: 1, value: 1_i32.to_ne_bytes().to_vec() },
            SocketOption { level: -1, name: i32::MIN, value: vec![] },
        ];
        for address in [
            "127.0.0.1:0",
            "[::1]:80",
            ":0",
            "a:1",
            "udp::7",
            "unix:/a",
            "unix:/a:8",
            "unix:/a\n1 2 00\nb",
            "unix:@a",
            "unix:@a:8",
            "fd:3",
        ] {
            assert_eq!(split(address).unwrap(), (vec![], address));
            for count in 1..=options.len() {
                let text = before(address, &options[..count]);
                assert_eq!(split(&text).unwrap(), (options[..count].to_vec(), address));
                assert!(Address::parse(&text).unwrap_err().is(libc::EINVAL), "an older primary takes {text:?}");
            }
        }
        let many = vec![options[0].clone(); OPTIONS_MAX + 1];
        assert!(split(&before(":0", &many)).unwrap_err().is(libc::EINVAL));
        for text in ["6 1\n:0", "6 1 0\n:0", "6 1 0g\n:0", "6 1 00 \n:0", "x 1 00\n:0", "6 1 +1\n:0", "\n:0"] {
            assert_eq!(split(text).unwrap(), (vec![], text));
        }
    }
}
