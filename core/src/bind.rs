//! Opening a listening or datagram socket for an address, in a primary and in any other process.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;

use crate::address::{Address, Host};
use crate::error::{Context, Error, Result};
use crate::options::{self, SocketOption};
use crate::sys::sockaddr::{self, SockAddr};
use crate::sys::unix_path::{self, Place, SocketFile};
use crate::sys::{Sys, descriptor, socket};

/// The backlog of a caller that names none, as in Node.
pub(crate) const DEFAULT_BACKLOG: i32 = 511;

/// A dead server's file cannot be replaced now.
const LOCKED: &str = "a server that is gone has left its socket file, and it is replaced under the lock of its directory (flock(2)), \
                      which another process holds";

/// True for an error of `open` that says so. Another attempt in a moment may succeed. Nothing else in `open` gives EAGAIN.
pub(crate) fn is_locked(error: &Error) -> bool {
    error.is(libc::EAGAIN)
}

/// Turns it into EADDRINUSE, for callers that do not try again.
pub(crate) fn unless_locked(error: Error) -> Error {
    if is_locked(&error) { Error::new(-libc::EADDRINUSE, error.sentence().to_owned()) } else { error }
}

/// How to listen. The numbers are those of the C interface and of the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ListenFlags(u32);

impl ListenFlags {
    /// `accept` does not wait.
    pub const NONBLOCK: ListenFlags = ListenFlags(1);
    /// A socket of this process's own, not shared through the primary.
    pub const EXCLUSIVE: ListenFlags = ListenFlags(2);
    /// An IPv6 socket takes no IPv4 connections.
    pub const IPV6ONLY: ListenFlags = ListenFlags(4);
    /// SO_REUSEPORT; implies `EXCLUSIVE`.
    pub const REUSEPORT: ListenFlags = ListenFlags(8);
    /// Every user may read the socket file.
    pub const READABLE_ALL: ListenFlags = ListenFlags(16);
    /// Every user may connect to the socket file.
    pub const WRITABLE_ALL: ListenFlags = ListenFlags(32);
    const KNOWN: u32 = 63;

    /// From the bits; unknown ones are refused.
    pub fn from_bits(bits: u32) -> Result<Self> {
        if bits & !Self::KNOWN == 0 {
            Ok(Self(bits))
        } else {
            Err(Error::invalid(format!("the listen flags {bits:#x} hold unknown bits {:#x}", bits & !Self::KNOWN)))
        }
    }

    /// The bits.
    pub fn bits(self) -> u32 {
        self.0
    }

    /// True when all of `other` are set.
    pub fn contains(self, other: ListenFlags) -> bool {
        self.0 & other.0 == other.0
    }
}

impl std::ops::BitOr for ListenFlags {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// What every socket of an address is made with.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shape {
    pub(crate) backlog: i32,
    pub(crate) options: Vec<SocketOption>,
}

impl Shape {
    /// To be called before listen(2), as the size of a buffer decides what a handshake offers (tcp(7)).
    pub(crate) fn give_options(&self, socket: BorrowedFd) -> std::result::Result<(), Failed> {
        self.options.iter().try_for_each(|option| {
            option.set_on(socket).map_err(|errno| (format!("setsockopt {}", option.called()).into(), errno))
        })
    }

    /// An option was set later. Sockets that are made from here on get it, too.
    pub(crate) fn follow(&mut self, option: &SocketOption) {
        self.options.retain(|old| (old.level, old.name) != (option.level, option.name));
        self.options.push(option.clone());
    }
}

/// Which call failed, and why.
type Failed = (Cow<'static, str>, Errno);

fn at(address: &Address) -> impl Fn(Failed) -> Error {
    move |(call, errno)| Error::os(format_args!("{call} {address}"), errno)
}

/// A socket that is bound and, unless it is a datagram socket, listens.
pub(crate) struct Bound {
    pub(crate) socket: OwnedFd,
    pub(crate) name: SockAddr,
    pub(crate) datagram: bool,
    /// The socket file, to be removed when the address is given up.
    pub(crate) file: Option<SocketFile>,
}

/// Opens an address whose host is numeric (see `resolve`). `place`: where exactly to bind a path; without it, wherever the path leads.
pub(crate) fn open(address: &Address, place: Option<Place>, shape: &Shape, flags: ListenFlags) -> Result<Bound> {
    let backlog = self::backlog(shape.backlog);
    let everybody = flags.contains(ListenFlags::READABLE_ALL) || flags.contains(ListenFlags::WRITABLE_ALL);
    if everybody && !matches!(address, Address::UnixPath(_)) {
        return Err(Error::invalid(format!(
            "\"{address}\" has no file that could be made readable or writable for all"
        )));
    }
    match address {
        Address::Inet { host, port, datagram } => open_inet(address, host, *port, *datagram, shape, flags),
        Address::UnixAbstract(name) => {
            let full = [b"\0", name.as_bytes()].concat();
            let name = SockAddr::unix(&full).ok_or_else(|| Error::invalid("the abstract name is too long"))?;
            let socket = socket::open(libc::AF_UNIX, false).context("socket")?;
            socket::bind(socket.as_fd(), &name).context(format_args!("bind {address}"))?;
            shape.give_options(socket.as_fd()).map_err(at(address))?;
            socket::listen(socket.as_fd(), backlog).context(format_args!("listen {address}"))?;
            Ok(Bound { socket, name, datagram: false, file: None })
        }
        Address::UnixPath(path) => {
            let mut mode = 0;
            if flags.contains(ListenFlags::READABLE_ALL) {
                mode |= 0o444;
            }
            if flags.contains(ListenFlags::WRITABLE_ALL) {
                mode |= 0o222;
            }
            let socket = socket::open(libc::AF_UNIX, false).context("socket")?;
            shape.give_options(socket.as_fd()).map_err(at(address))?;
            let file = place
                .map_or_else(|| Place::at(Path::new(path)), Ok)
                .and_then(|place| unix_path::bind_and_listen(socket.as_fd(), place, mode, backlog));
            let file = match file {
                Err(Errno::EWOULDBLOCK) => return Err(Error::new(-libc::EAGAIN, format!("bind {address}: {LOCKED}"))),
                outcome => outcome.context(format_args!("bind {address}"))?,
            };
            let name = SockAddr::unix(path.as_bytes())
                .unwrap_or_else(|| sockaddr::local_name(socket.as_fd()).unwrap_or(SockAddr::EMPTY));
            Ok(Bound { socket, name, datagram: false, file: Some(file) })
        }
        Address::Inherited(_) if !shape.options.is_empty() => Err(options::of_another(&address.to_string())),
        Address::Inherited(number) => inherited(*number),
    }
}

fn open_inet(
    address: &Address,
    host: &Host,
    port: u16,
    datagram: bool,
    shape: &Shape,
    flags: ListenFlags,
) -> Result<Bound> {
    let v6_any: SocketAddr = SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, port, 0, 0).into();
    let name = match host {
        Host::V4(ip) => SocketAddrV4::new(*ip, port).into(),
        Host::V6 { ip, scope } => {
            let scope = match scope {
                None => 0,
                Some(scope) => sockaddr::scope_number(scope).context(format_args!("\"{scope}\" in \"{address}\""))?,
            };
            SocketAddrV6::new(*ip, port, 0, scope).into()
        }
        Host::Any => {
            // As Node does: both families where the kernel has IPv6, else IPv4 alone.
            match bind_inet(v6_any, datagram, shape, flags) {
                Err((_, Errno::EAFNOSUPPORT | Errno::EADDRNOTAVAIL)) => {
                    SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port).into()
                }
                outcome => {
                    return outcome.map_err(at(address));
                }
            }
        }
        Host::Name(name) => {
            return Err(Error::invalid(format!(
                "\"{name}\" was not resolved; the worker resolves names before it asks"
            )));
        }
    };
    bind_inet(name, datagram, shape, flags).map_err(at(address))
}

/// True if connections over IPv4 come there: to all addresses, or to an IPv4 address that is written as IPv6.
fn takes_ipv4(at: &SocketAddr) -> bool {
    sockaddr::is_wildcard(at) || matches!(at.ip(), IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some())
}

fn during<T>(call: &'static str, outcome: Sys<T>) -> std::result::Result<T, Failed> {
    outcome.map_err(|errno| (call.into(), errno))
}

fn bound_inet(
    at: SocketAddr,
    datagram: bool,
    shape: &Shape,
    flags: ListenFlags,
) -> std::result::Result<OwnedFd, Failed> {
    let family = if at.is_ipv6() { libc::AF_INET6 } else { libc::AF_INET };
    let socket = during("socket", socket::open(family, datagram))?;
    let fd = socket.as_fd();
    if at.is_ipv6() {
        // Set in either case, so that the host's bindv6only setting does not decide.
        let only = flags.contains(ListenFlags::IPV6ONLY) || !takes_ipv4(&at);
        during("setsockopt IPV6_V6ONLY", socket::set_ipv6_only(fd, only))?;
    }
    // For datagrams SO_REUSEADDR would let another process of the same user take them over.
    if !datagram {
        during("setsockopt SO_REUSEADDR", socket::set_reuse_address(fd))?;
    }
    if flags.contains(ListenFlags::REUSEPORT) {
        during("setsockopt SO_REUSEPORT", socket::set_reuse_port(fd))?;
    }
    during("bind", socket::bind(fd, &at.into()))?;
    shape.give_options(fd)?;
    Ok(socket)
}

fn bind_inet(at: SocketAddr, datagram: bool, shape: &Shape, flags: ListenFlags) -> std::result::Result<Bound, Failed> {
    let backlog = self::backlog(shape.backlog);
    let socket = bound_inet(at, datagram, shape, flags)?;
    let fd = socket.as_fd();
    let name = during("getsockname", sockaddr::local_name(fd))?;
    if let Some(chosen) = name.to_inet()
        && at.port() == 0
        && !datagram
    {
        // A port that the kernel has chosen is freed when anybody shuts the socket down (tcp_set_state); a port that was named is not.
        // SO_REUSEADDR lets the second socket in as long as the first does not listen.
        let mut at = at;
        at.set_port(chosen.port());
        let named = bound_inet(at, datagram, shape, flags)?;
        during("listen", socket::listen(named.as_fd(), backlog))?;
        return Ok(Bound { socket: named, name, datagram, file: None });
    }
    if !datagram {
        during("listen", socket::listen(fd, backlog))?;
    }
    Ok(Bound { socket, name, datagram, file: None })
}

/// The backlog for listen(2).
pub(crate) fn backlog(wanted: i32) -> i32 {
    if wanted <= 0 { DEFAULT_BACKLOG } else { wanted }
}

/// Another socket beside `first`, which has SO_REUSEPORT set and the address `name`: a listening one, or one for datagrams.
pub(crate) fn beside(first: BorrowedFd, name: &SockAddr, datagram: bool, shape: &Shape) -> Sys<OwnedFd> {
    let socket = bound_beside(first, name, datagram)?;
    shape.give_options(socket.as_fd()).map_err(|(_, errno)| errno)?;
    if !datagram {
        socket::listen(socket.as_fd(), self::backlog(shape.backlog))?;
    }
    Ok(socket)
}

/// The same before it listens.
pub(crate) fn bound_beside(first: BorrowedFd, name: &SockAddr, datagram: bool) -> Sys<OwnedFd> {
    let socket = socket::open(name.family(), datagram)?;
    if name.family() == libc::AF_INET6 {
        socket::set_ipv6_only(socket.as_fd(), socket::is_ipv6_only(first)?)?;
    }
    if !datagram {
        socket::set_reuse_address(socket.as_fd())?;
    }
    socket::set_reuse_port(socket.as_fd())?;
    socket::bind(socket.as_fd(), name)?;
    Ok(socket)
}

/// A socket with the options of an address's sockets that no worker has: it shows what another option changes, whatever workers do to
/// theirs meanwhile.
pub(crate) fn replica(name: &SockAddr, datagram: bool, shape: &Shape) -> Sys<OwnedFd> {
    let socket = socket::open(name.family(), datagram)?;
    shape.give_options(socket.as_fd()).map_err(|(_, errno)| errno)?;
    Ok(socket)
}

/// A listening or datagram socket that the program has open.
fn inherited(number: i32) -> Result<Bound> {
    let socket = descriptor::duplicate_number(number).context(format_args!("descriptor {number}"))?;
    let nature = socket::nature(socket.as_fd()).context(format_args!("descriptor {number} is no socket"))?;
    let inet = matches!(nature.family, libc::AF_INET | libc::AF_INET6);
    let datagram = inet && nature.kind == libc::SOCK_DGRAM;
    if nature.kind != libc::SOCK_STREAM && !datagram {
        return Err(Error::invalid(format!("descriptor {number} is a socket, but no stream socket and no udp socket")));
    }
    if !matches!(nature.family, libc::AF_INET | libc::AF_INET6 | libc::AF_UNIX) {
        return Err(Error::invalid(format!(
            "descriptor {number} is a socket of family {}, not of IP or unix",
            nature.family
        )));
    }
    if datagram {
        // O_NONBLOCK stays as its maker set it, since everybody who has the socket shares the flag.
        let name = sockaddr::local_name(socket.as_fd()).context(format_args!("descriptor {number}"))?;
        return match name.to_inet().is_some_and(|inet| inet.port() != 0) {
            true => Ok(Bound { socket, name, datagram, file: None }),
            false => Err(Error::invalid(format!(
                "descriptor {number} is a socket that is not bound; call bind(2) on it first"
            ))),
        };
    }
    if !nature.listening {
        return Err(Error::invalid(format!(
            "descriptor {number} is a socket that does not listen; call listen(2) on it first"
        )));
    }
    descriptor::set_nonblocking(socket.as_fd()).context(format_args!("descriptor {number}"))?;
    let name = sockaddr::local_name(socket.as_fd()).context(format_args!("descriptor {number}"))?;
    Ok(Bound { socket, name, datagram: false, file: None })
}

/// All addresses of a host. May wait for a name server.
pub(crate) fn addresses_of(name: &str) -> Result<Vec<IpAddr>> {
    let failed = |error| Error::new(-libc::EINVAL, format!("the host name \"{name}\" cannot be resolved: {error}"));
    Ok((name, 0).to_socket_addrs().map_err(failed)?.map(|found| found.ip()).collect())
}

/// The same address with a numeric host and an absolute path, as it goes over the wire. May wait for a name server.
pub(crate) fn resolve(address: Address) -> Result<Address> {
    match address {
        Address::Inet { host: Host::Name(name), port, datagram } => {
            let found = (name.as_str(), port)
                .to_socket_addrs()
                .map_err(|error| {
                    Error::new(-libc::EINVAL, format!("the host name \"{name}\" cannot be resolved: {error}"))
                })?
                .next()
                .ok_or_else(|| Error::invalid(format!("the host name \"{name}\" has no address")))?;
            let host = match found {
                SocketAddr::V4(v4) => Host::V4(*v4.ip()),
                SocketAddr::V6(v6) => {
                    Host::V6 { ip: *v6.ip(), scope: (v6.scope_id() != 0).then(|| v6.scope_id().to_string()) }
                }
            };
            Ok(Address::Inet { host, port, datagram })
        }
        Address::UnixPath(path) if !path.starts_with('/') => {
            let here = std::env::current_dir()
                .map_err(|error| Error::new(-libc::ENOENT, format!("the current directory is gone: {error}")))?;
            let full = here.join(&path);
            match full.to_str() {
                Some(full) => Ok(Address::UnixPath(full.to_owned())),
                None => Err(Error::invalid("the current directory is not UTF-8; give an absolute path")),
            }
        }
        numeric => Ok(numeric),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_socket_beside_one_takes_what_that_takes() {
        for flags in [ListenFlags::default(), ListenFlags::IPV6ONLY] {
            let shape = Shape { backlog: 9, ..Shape::default() };
            let address = Address::parse("[::]:0").unwrap();
            let Ok(first) = open(&address, None, &shape, flags | ListenFlags::REUSEPORT) else {
                eprintln!("skipped: no IPv6 here");
                return;
            };
            let other = beside(first.socket.as_fd(), &first.name, false, &shape).unwrap();
            let only = flags.contains(ListenFlags::IPV6ONLY);
            assert_eq!([first.socket.as_fd(), other.as_fd()].map(socket::is_ipv6_only), [Ok(only), Ok(only)]);
            assert_eq!(sockaddr::local_name(other.as_fd()).unwrap().to_inet(), first.name.to_inet());
            assert_eq!(socket::listening_room(other.as_fd()), Ok(Some(9)));
        }
    }
}
