//! The text of an address, as `listen` takes it and the wire carries it. Pure: names are resolved elsewhere.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use crate::error::{Error, Result};

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Address {
    /// TCP, or UDP when `datagram`.
    Inet { host: Host, port: u16, datagram: bool },
    /// A socket file.
    UnixPath(String),
    /// A name without a file; without the leading NUL.
    UnixAbstract(String),
    /// A listening socket that the primary's program has open under this number.
    Inherited(i32),
}

/// The host part of an address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Host {
    /// No host given: all addresses, both families where there are both.
    Any,
    V4(Ipv4Addr),
    V6 {
        ip: Ipv6Addr,
        scope: Option<String>,
    },
    Name(String),
}

/// The longest text of an address (the kernel's own limit for a path, PATH_MAX).
pub(crate) const ADDRESS_MAX: usize = 4096;

/// sun_path has 108 bytes, of which the first is the NUL that makes a name abstract (unix(7)).
pub(crate) const ABSTRACT_NAME_MAX: usize = 107;

const FORMS: &str =
    "write host:port, :port, [v6]:port, unix:/path, unix:@name, fd:N, or udp: before one of the first three";

impl Address {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        if text.len() > ADDRESS_MAX {
            return Err(Error::invalid(format!(
                "the address has {} bytes; at most {ADDRESS_MAX} are possible",
                text.len()
            )));
        }
        if text.contains('\0') {
            return Err(Error::invalid("the address holds a NUL character"));
        }
        if let Some(path) = text.strip_prefix("unix:") {
            return parse_unix(text, path);
        }
        if let Some(number) = text.strip_prefix("fd:") {
            return match number.parse::<i32>() {
                Ok(number) if number >= 0 && !text.contains('+') => Ok(Address::Inherited(number)),
                _ => Err(Error::invalid(format!("\"{text}\" names no descriptor; write fd: and a number from 0 up"))),
            };
        }
        let (rest, datagram) = match text.strip_prefix("udp:") {
            Some(rest) => (rest, true),
            None => (text, false),
        };
        let (host, port) = parse_inet(text, rest)?;
        Ok(Address::Inet { host, port, datagram })
    }

    /// True when several askers get different sockets unless they agree on an index.
    pub(crate) fn is_port_zero(&self) -> bool {
        matches!(self, Address::Inet { port: 0, .. })
    }
}

fn parse_unix(text: &str, path: &str) -> Result<Address> {
    match path.strip_prefix('@') {
        Some("") => Err(Error::invalid(format!("\"{text}\" has no name; write unix:@name"))),
        Some(name) if name.len() > ABSTRACT_NAME_MAX => Err(Error::invalid(format!(
            "the abstract name in \"{text}\" has {} bytes; at most {ABSTRACT_NAME_MAX} are possible",
            name.len()
        ))),
        Some(name) => Ok(Address::UnixAbstract(name.to_owned())),
        None if path.is_empty() => Err(Error::invalid(format!("\"{text}\" has no path; write unix:/path"))),
        None => Ok(Address::UnixPath(path.to_owned())),
    }
}

fn parse_inet(text: &str, rest: &str) -> Result<(Host, u16)> {
    let Some((host, port)) = rest.rsplit_once(':') else {
        return Err(Error::invalid(format!("\"{text}\" has no port; {FORMS}")));
    };
    if port.is_empty() || !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Error::invalid(format!("\"{text}\" has no number for a port; {FORMS}")));
    }
    let port = port
        .parse::<u16>()
        .map_err(|_| Error::invalid(format!("the port in \"{text}\" is not in the range 0 to 65535")))?;
    Ok((parse_host(text, host, port)?, port))
}

/// The host in front of the port, of the address `text`.
pub(crate) fn parse_host(text: &str, host: &str, port: u16) -> Result<Host> {
    Ok(if host.is_empty() || host == "*" {
        Host::Any
    } else if let Some(inner) = host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')) {
        let (ip, scope) = match inner.split_once('%') {
            Some((ip, scope)) if !scope.is_empty() => (ip, Some(scope.to_owned())),
            _ => (inner, None),
        };
        let ip = ip
            .parse()
            .map_err(|_| Error::invalid(format!("what stands in brackets in \"{text}\" is no IPv6 address")))?;
        Host::V6 { ip, scope }
    } else if host.contains(':') {
        return Err(Error::invalid(format!("an IPv6 address stands in brackets: [{host}]:{port}")));
    } else if let Ok(ip) = host.parse() {
        Host::V4(ip)
    } else if host.bytes().any(|byte| byte.is_ascii_whitespace() || byte.is_ascii_control() || b"[]/@".contains(&byte))
    {
        return Err(Error::invalid(format!("\"{host}\" is no host name; {FORMS}")));
    } else {
        Host::Name(host.to_owned())
    })
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Inet { host, port, datagram } => {
                if *datagram {
                    f.write_str("udp:")?;
                }
                match host {
                    Host::Any => write!(f, ":{port}"),
                    Host::V4(ip) => write!(f, "{ip}:{port}"),
                    Host::V6 { ip, scope: None } => write!(f, "[{ip}]:{port}"),
                    Host::V6 { ip, scope: Some(scope) } => write!(f, "[{ip}%{scope}]:{port}"),
                    Host::Name(name) => write!(f, "{name}:{port}"),
                }
            }
            Address::UnixPath(path) => write!(f, "unix:{path}"),
            Address::UnixAbstract(name) => write!(f, "unix:@{name}"),
            Address::Inherited(number) => write!(f, "fd:{number}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_form_is_understood_and_written_back() {
        for text in [
            "127.0.0.1:80",
            ":8080",
            "[::1]:0",
            "[fe80::1%eth0]:443",
            "example.org:65535",
            "unix:/run/app.sock",
            "unix:relative.sock",
            "unix:@name",
            "fd:3",
            "udp:0.0.0.0:53",
            "udp::53",
            "udp:[::]:53",
        ] {
            assert_eq!(Address::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Address::parse("*:80").unwrap().to_string(), ":80");
    }

    #[test]
    fn a_bad_address_says_what_is_wrong() {
        for (text, part) in [
            ("", "no port"),
            ("localhost", "no port"),
            ("localhost:", "no number"),
            ("localhost:http", "no number"),
            ("localhost:-1", "no number"),
            ("1.2.3.4:65536", "range"),
            ("::1:80", "brackets"),
            ("[::1:80", "brackets"),
            ("[nonsense]:80", "no IPv6 address"),
            ("two words:80", "no host name"),
            ("unix:", "no path"),
            ("unix:@", "no name"),
            ("fd:", "no descriptor"),
            ("fd:-1", "no descriptor"),
            ("fd:x", "no descriptor"),
            ("fd:99999999999", "no descriptor"),
            ("udp:", "no port"),
        ] {
            let error = Address::parse(text).unwrap_err();
            assert_eq!(error.code(), -libc::EINVAL, "{text}");
            assert!(error.sentence().contains(part), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_an_address_or_an_error(text in ".*") {
            if let Ok(address) = Address::parse(&text) {
                prop_assert_eq!(Address::parse(&address.to_string()).unwrap(), address);
            }
        }
    }
}
