//! What workers may listen on, as the primary's program declares it. Pure: names are resolved and directories opened in
//! `primary::listen::permits`.

use std::net::{IpAddr, Ipv6Addr};

use crate::address::{self, Address, Host};
use crate::error::{Error, Result};

/// Something that workers may listen on: `host:port`, `host:low-high` or `host:*`, where the host is a name, an address, nothing
/// (the socket of all addresses) or `*` (any address), and port 0 stands for a free port; `udp:` before one of these;
/// `unix:/path`, `unix:/directory/` (any socket there or further down), `unix:@name`; `fd:N`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenRule(pub(crate) Declared);

/// A rule as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Declared {
    Inet { hosts: Hosts, ports: Ports, datagram: bool },
    Unix(Sockets),
    Abstract(String),
    Inherited(i32),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Hosts {
    /// Any address, and all of them.
    Any,
    One(Host),
}

/// From the first to the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ports(u16, u16);

/// Socket files, by the cleaned text of an absolute path; the root directory is the empty text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sockets {
    pub(crate) directory: String,
    /// `None`: every one in the directory or further down.
    pub(crate) name: Option<String>,
}

/// A rule with numeric hosts and the directory's real path, to be compared with what is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Rule {
    Inet {
        at: At,
        ports: Ports,
        datagram: bool,
    },
    /// `real`: the directory's real path, if it differs from the written one.
    Unix {
        sockets: Sockets,
        real: Option<String>,
    },
    Abstract(String),
    Inherited(i32),
}

/// A place on the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum At {
    Any,
    /// The socket of all addresses, of both families where there are both.
    All,
    /// With the number of the interface if the address is unique only there, otherwise 0.
    One(IpAddr, u32),
}

/// What a worker asks for, canonical: two texts that mean the same socket are the same here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Asked {
    Inet {
        at: At,
        port: u16,
        datagram: bool,
    },
    /// The cleaned directory, and the name in it.
    Unix {
        directory: String,
        name: String,
    },
    Abstract(String),
    Inherited(i32),
}

const FORMS: &str = "write host:port, host:low-high or host:*, where no host means the socket of all addresses and * any \
                     address, udp: before one of these, unix:/path, unix:/directory/, unix:@name, or fd:N";

impl ListenRule {
    /// From its text. An error says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong =
            |why: &str| Error::invalid(format!("\"{text}\" says not what workers may listen on: {why}; {FORMS}"));
        if text.len() > address::ADDRESS_MAX || text.contains('\0') {
            return Err(Error::invalid("a rule for what workers may listen on is too long, or holds a NUL character"));
        }
        if let Some(path) = text.strip_prefix("unix:")
            && !path.starts_with('@')
        {
            let (directory, name) = clean(path).map_err(|fault| wrong(fault.text()))?;
            return Ok(Self(Declared::Unix(Sockets { directory, name })));
        }
        if text.starts_with("unix:") || text.starts_with("fd:") {
            return match Address::parse(text)? {
                Address::UnixAbstract(name) => Ok(Self(Declared::Abstract(name))),
                Address::Inherited(number) => Ok(Self(Declared::Inherited(number))),
                _ => Err(wrong("it is of no known kind")),
            };
        }
        let (rest, datagram) = match text.strip_prefix("udp:") {
            Some(rest) => (rest, true),
            None => (text, false),
        };
        let (host, ports) = rest.rsplit_once(':').ok_or_else(|| wrong("it has no port"))?;
        let ports = Ports::parse(ports).ok_or_else(|| wrong("its ports are no numbers from 0 to 65535 in order"))?;
        let hosts = if host == "*" { Hosts::Any } else { Hosts::One(address::parse_host(text, host, ports.1)?) };
        if let Hosts::One(Host::V6 { ip, scope: None }) = &hosts
            && is_link_local(ip)
        {
            return Err(wrong("such an address is only known together with its interface, as in [fe80::1%eth0]:80"));
        }
        Ok(Self(Declared::Inet { hosts, ports, datagram }))
    }
}

impl Ports {
    fn parse(text: &str) -> Option<Self> {
        let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u16>().ok())?;
        if text == "*" {
            return Some(Self(0, u16::MAX));
        }
        let (low, high) = match text.split_once('-') {
            Some((low, high)) => (number(low)?, number(high)?),
            None => (number(text)?, number(text)?),
        };
        (low <= high).then_some(Self(low, high))
    }
}

impl At {
    /// An address in the one form that the kernel knows for it: an IPv4 address that is written as IPv6 is IPv4, and the
    /// interface counts only where bind(2) looks at it.
    pub(crate) fn one(ip: IpAddr, interface: u32) -> Self {
        match ip.to_canonical() {
            IpAddr::V6(v6) if is_link_local(&v6) => At::One(ip, interface),
            canonical => At::One(canonical, 0),
        }
    }

    fn covers(self, asked: At) -> bool {
        self == At::Any || self == asked
    }
}

fn is_link_local(ip: &Ipv6Addr) -> bool {
    ip.segments()[0] & 0xffc0 == 0xfe80
}

impl Rule {
    /// `None`: the rule does not cover what is asked for. Otherwise the path from the rule's directory to the socket's, empty if it is no
    /// socket file.
    pub(crate) fn covers<'a>(&self, asked: &'a Asked) -> Option<&'a str> {
        let covered = |is: bool| is.then_some("");
        match (self, asked) {
            (Rule::Inet { at, ports, datagram }, Asked::Inet { at: asked, port, datagram: asked_datagram }) => {
                covered(datagram == asked_datagram && (ports.0..=ports.1).contains(port) && at.covers(*asked))
            }
            (Rule::Unix { sockets, real }, Asked::Unix { directory, name }) => {
                let below = |of: &str| {
                    let rest = directory.strip_prefix(of)?;
                    if rest.is_empty() { Some(rest) } else { rest.strip_prefix('/') }
                };
                let rest = below(&sockets.directory).or_else(|| below(real.as_ref()?))?;
                match &sockets.name {
                    None => Some(rest),
                    Some(only) => (rest.is_empty() && only == name).then_some(rest),
                }
            }
            (Rule::Abstract(name), Asked::Abstract(asked)) => covered(name == asked),
            (Rule::Inherited(number), Asked::Inherited(asked)) => covered(number == asked),
            _ => None,
        }
    }
}

/// Why a path is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PathFault {
    Relative,
    Parent,
}

impl PathFault {
    pub(crate) fn text(self) -> &'static str {
        match self {
            PathFault::Relative => "the path does not begin with /",
            PathFault::Parent => "the path holds \"..\", which leads elsewhere than it says where there are links",
        }
    }
}

/// Removes what means nothing from a path (`//`, `/./`). Returns its directory (empty: the root) and the name in it, if it names one.
pub(crate) fn clean(path: &str) -> std::result::Result<(String, Option<String>), PathFault> {
    let inner = path.strip_prefix('/').ok_or(PathFault::Relative)?;
    let mut parts = Vec::new();
    let mut names_directory = true;
    for part in inner.split('/') {
        names_directory = part.is_empty() || part == ".";
        match part {
            "" | "." => {}
            ".." => return Err(PathFault::Parent),
            part => parts.push(part),
        }
    }
    let name = if names_directory { None } else { parts.pop().map(str::to_owned) };
    Ok((parts.iter().flat_map(|part| ["/", part]).collect(), name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::Ipv4Addr;

    fn rule(text: &str) -> Rule {
        match ListenRule::parse(text).unwrap().0 {
            Declared::Inet { hosts, ports, datagram } => {
                let at = match hosts {
                    Hosts::Any => At::Any,
                    Hosts::One(Host::Any) => At::All,
                    Hosts::One(Host::V4(ip)) => At::one(ip.into(), 0),
                    Hosts::One(Host::V6 { ip, scope }) => {
                        At::one(ip.into(), scope.map_or(0, |scope| scope.parse().unwrap()))
                    }
                    Hosts::One(Host::Name(_)) => panic!("a name"),
                };
                Rule::Inet { at, ports, datagram }
            }
            Declared::Unix(sockets) => Rule::Unix { sockets, real: None },
            Declared::Abstract(name) => Rule::Abstract(name),
            Declared::Inherited(number) => Rule::Inherited(number),
        }
    }

    fn asked(text: &str) -> Option<Asked> {
        Some(match Address::parse(text).ok()? {
            Address::Inet { host, port, datagram } => {
                let at = match host {
                    Host::Any => At::All,
                    Host::V4(ip) => At::one(ip.into(), 0),
                    Host::V6 { ip, scope } => At::one(ip.into(), scope.map_or(0, |scope| scope.parse().unwrap())),
                    Host::Name(_) => return None,
                };
                Asked::Inet { at, port, datagram }
            }
            Address::UnixPath(path) => {
                let (directory, name) = clean(&path).ok()?;
                Asked::Unix { directory, name: name? }
            }
            Address::UnixAbstract(name) => Asked::Abstract(name),
            Address::Inherited(number) => Asked::Inherited(number),
        })
    }

    fn covered(text: &str, by: &str) -> bool {
        asked(text).is_some_and(|asked| rule(by).covers(&asked).is_some())
    }

    #[test]
    fn a_rule_covers_what_it_says_and_no_more() {
        for (by, yes, no) in [
            (
                "127.0.0.1:80",
                &["127.0.0.1:80", "[::ffff:127.0.0.1]:80"][..],
                &[":80", "127.0.0.2:80", "udp:127.0.0.1:80", "127.0.0.1:8080", "0.0.0.0:80"][..],
            ),
            (":80", &[":80", "*:80"], &["0.0.0.0:80", "[::]:80", "127.0.0.1:80", ":0", "udp::80"]),
            ("*:80", &[":80", "0.0.0.0:80", "[::]:80", "127.0.0.1:80", "[fe80::1%7]:80"], &[":81", "udp::80"]),
            (
                "127.0.0.1:8000-8003",
                &["127.0.0.1:8000", "127.0.0.1:8003"],
                &["127.0.0.1:7999", "127.0.0.1:8004", "127.0.0.1:0"],
            ),
            (
                "udp:[::1]:*",
                &["udp:[::1]:0", "udp:[::1]:65535", "udp:[::1%3]:53"],
                &["[::1]:53", "udp:[::2]:53", "udp::53"],
            ),
            ("[fe80::1%2]:80", &["[fe80::1%2]:80"], &["[fe80::1%3]:80", "[fe80::1]:80", "[fe80::2%2]:80"]),
            ("[::ffff:10.0.0.1]:1", &["10.0.0.1:1"], &["[::10.0.0.1]:1"]),
            (
                "unix:/run/a/",
                &["unix:/run/a/s", "unix:/run//a/./s", "unix:/run/a/b/c/s"],
                &[
                    "unix:/run/a",
                    "unix:/run/ab/s",
                    "unix:/run/a/../b/s",
                    "unix:/run/a/",
                    "unix:/run/a/s/",
                    "unix:/run/a/s/.",
                    "unix:run/a/s",
                    "unix:@/run/a/s",
                ],
            ),
            (
                "unix:/run/a/s",
                &["unix:/run/a/s", "unix:///run/./a//s"],
                &["unix:/run/a/s2", "unix:/run/a/b/s", "unix:/s", "unix:/run/a/s/s"],
            ),
            ("unix:/", &["unix:/s", "unix:/tmp/s"], &["unix:/", "unix:@s"]),
            ("unix:@app", &["unix:@app"], &["unix:@app2", "unix:/app", "unix:@ap"]),
            ("fd:3", &["fd:3"], &["fd:30", "fd:4"]),
        ] {
            for text in yes {
                assert!(covered(text, by), "{by} does not cover {text}");
            }
            for text in no {
                assert!(!covered(text, by), "{by} covers {text}");
            }
        }
    }

    #[test]
    fn a_bad_rule_says_what_is_wrong() {
        for (text, part) in [
            ("", "no port"),
            ("localhost", "no port"),
            ("localhost:", "ports"),
            ("localhost:80-", "ports"),
            ("localhost:90-80", "in order"),
            ("localhost:1-65536", "65535"),
            ("localhost:+1", "ports"),
            ("[::1:80", "brackets"),
            ("::1:80", "brackets"),
            ("two words:80", "no host name"),
            ("[fe80::1]:80", "interface"),
            ("unix:relative/", "begin with /"),
            ("unix:/run/../etc/", ".."),
            ("unix:@", "no name"),
            ("fd:x", "no descriptor"),
            ("fd:*", "no descriptor"),
            ("udp:", "no port"),
        ] {
            let error = ListenRule::parse(text).unwrap_err();
            assert_eq!(error.code(), -libc::EINVAL, "{text}");
            assert!(error.sentence().contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn the_real_place_of_a_directory_counts_as_well() {
        let Rule::Unix { sockets, .. } = rule("unix:/var/run/a/") else { panic!() };
        let both = Rule::Unix { sockets, real: Some("/run/a".to_owned()) };
        assert_eq!(both.covers(&asked("unix:/run/a/b/s").unwrap()), Some("b"));
        assert_eq!(both.covers(&asked("unix:/var/run/a/b/s").unwrap()), Some("b"));
        assert_eq!(both.covers(&asked("unix:/run/b/s").unwrap()), None);
    }

    proptest! {
        #[test]
        fn any_text_is_a_rule_or_an_error(text in ".*") {
            let _ = ListenRule::parse(&text);
        }

        /// Whatever the path, what a directory's rule covers lies below it, said without any of our code.
        #[test]
        fn no_path_leads_out_of_a_directory(path in "(/{0,2}(\\.{1,3}|a|b|run|s)){0,6}/?") {
            let inside = path.starts_with('/')
                && !path.split('/').any(|part| part == "..")
                && !path.ends_with('/') && !path.ends_with("/.")
                && {
                    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
                    parts.len() > 2 && parts[0] == "run" && parts[1] == "a"
                };
            prop_assert_eq!(covered(&format!("unix:{path}"), "unix:/run/a/"), inside, "{}", path);
        }

        #[test]
        fn a_range_of_ports_is_what_it_says(low: u16, high: u16, port: u16, last: u8) {
            let text = format!("127.0.0.1:{low}-{high}");
            match ListenRule::parse(&text) {
                Err(_) => prop_assert!(low > high),
                Ok(_) => {
                    let host = Ipv4Addr::new(127, 0, 0, last);
                    prop_assert_eq!(covered(&format!("{host}:{port}"), &text), last == 1 && low <= port && port <= high);
                }
            }
        }

        /// Two addresses that are one address to the kernel are covered by the same rules.
        #[test]
        fn a_mapped_address_is_its_ipv4_address(ip: u32, port: u16, rule_ip: u32) {
            let (ip, rule_ip) = (Ipv4Addr::from(ip), Ipv4Addr::from(rule_ip));
            for by in [format!("{ip}:*"), format!("{rule_ip}:*"), ":*".to_owned(), "*:*".to_owned()] {
                prop_assert_eq!(covered(&format!("{ip}:{port}"), &by), covered(&format!("[{}]:{port}", ip.to_ipv6_mapped()), &by));
            }
        }
    }
}
