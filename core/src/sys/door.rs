#![allow(unsafe_code)] // Options and netlink messages are read and written as bytes.
//! Shutting the door: a listening socket refuses new clients, while those that came before are served.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

use super::{Sys, check};

/// SO_BINDTOIFINDEX of Linux 5.1, and the number of an interface that does not exist.
const BIND_TO_INTERFACE: i32 = 62;
static NOWHERE: i32 = i32::MAX;

/// How long to wait for handshakes that began before the door was shut.
pub(crate) const HANDSHAKES: Duration = Duration::from_secs(3);

/// From here on a listening socket refuses new clients; those that came before can still be accepted. `inet`: it is no unix socket.
pub(crate) fn shut(listening: BorrowedFd, inet: bool) {
    match inet {
        // Where the kernel cannot do that, clients come until the socket is closed.
        true => drop(bind_to_nowhere(listening)),
        false => super::socket::finish_receiving(listening),
    }
}

/// From here on a SYN finds no listener at a TCP socket and is refused, while its queue and the handshakes that have begun
/// with it finish. There is no way back. Needs no privilege since Linux 5.7, unless the socket is bound to an interface.
pub(crate) fn bind_to_nowhere(socket: BorrowedFd) -> Sys<()> {
    let length = std::mem::size_of_val(&NOWHERE) as libc::socklen_t;
    // SAFETY: the option is an int, and the length says so.
    check(unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, BIND_TO_INTERFACE, (&raw const NOWHERE).cast(), length)
    })
    .map(|_| ())
}

/// True if it still is bound so, although others have it.
pub(crate) fn is_bound_to_nowhere(socket: BorrowedFd) -> Sys<bool> {
    Ok(super::socket::option(socket, BIND_TO_INTERFACE)? == NOWHERE)
}

// include/uapi/linux/sock_diag.h, inet_diag.h and net/tcp_states.h of the kernel.
const SOCK_DIAG: i32 = 4;
const BY_FAMILY: u16 = 20;
const REQUEST_AND_DUMP: u16 = 0x301;
const SYN_RECEIVED: u32 = 1 << 3;
const HEADER: usize = 16;
const REQUEST: usize = HEADER + 56;
const PORT_AT: usize = HEADER + 4;
const ERROR: u16 = 2;
const DONE: u16 = 3;

/// The local ports of the TCP handshakes that are under way on this host (sock_diag(7)). `None` where the kernel does not tell.
pub(crate) fn handshakes() -> Option<Vec<u16>> {
    super::panics::point();
    // SAFETY: socket(2) takes only integers.
    let fd = check(unsafe {
        libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, SOCK_DIAG)
    })
    .ok()?;
    // SAFETY: the kernel has just made this descriptor for us.
    let netlink = unsafe { OwnedFd::from_raw_fd(fd) };
    let mut ports = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        ask(&netlink, family, &mut ports)?;
    }
    Some(ports)
}

fn ask(netlink: &OwnedFd, family: i32, ports: &mut Vec<u16>) -> Option<()> {
    let mut request = [0_u8; REQUEST];
    request[..4].copy_from_slice(&(REQUEST as u32).to_ne_bytes());
    request[4..6].copy_from_slice(&BY_FAMILY.to_ne_bytes());
    request[6..8].copy_from_slice(&REQUEST_AND_DUMP.to_ne_bytes());
    request[HEADER] = family as u8;
    request[HEADER + 1] = libc::IPPROTO_TCP as u8;
    request[HEADER + 4..HEADER + 8].copy_from_slice(&SYN_RECEIVED.to_ne_bytes());
    // SAFETY: pointer and length describe initialised bytes.
    let sent = unsafe { libc::send(netlink.as_raw_fd(), request.as_ptr().cast(), request.len(), libc::MSG_NOSIGNAL) };
    if sent != request.len() as isize {
        return None;
    }
    let mut buffer = vec![0_u8; 16 * 1024];
    loop {
        // The answer is complete before either call returns.
        // SAFETY: the kernel writes at most so many bytes.
        let length = unsafe { libc::recv(netlink.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
        let mut rest = buffer.get(..usize::try_from(length).ok()?)?;
        if rest.is_empty() {
            return None;
        }
        while let Some((message, kind)) = next(&mut rest) {
            match kind {
                DONE => return Some(()),
                ERROR => return None,
                BY_FAMILY => {
                    ports.extend(message.get(PORT_AT..PORT_AT + 2).map(|at| u16::from_be_bytes([at[0], at[1]])))
                }
                _ => {}
            }
        }
    }
}

/// Cuts the first message off.
fn next<'a>(rest: &mut &'a [u8]) -> Option<(&'a [u8], u16)> {
    let head = rest.get(..HEADER)?;
    let length = u32::from_ne_bytes([head[0], head[1], head[2], head[3]]) as usize;
    let kind = u16::from_ne_bytes([head[4], head[5]]);
    let message = rest.get(..length).filter(|message| message.len() >= HEADER)?;
    *rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((message, kind))
}

#[cfg(test)]
mod tests {
    use super::super::{sockaddr, socket};
    use super::*;
    use std::io::Write;
    use std::net::{SocketAddr, TcpStream};
    use std::os::fd::AsFd;

    #[test]
    fn who_comes_after_is_refused_and_who_is_there_is_accepted_and_a_handshake_under_way_shows() {
        let listening = socket::open(libc::AF_INET, false).unwrap();
        let defer: i32 = 30;
        // SAFETY: the option is an int.
        let outcome = unsafe {
            libc::setsockopt(
                listening.as_raw_fd(),
                libc::IPPROTO_TCP,
                libc::TCP_DEFER_ACCEPT,
                (&raw const defer).cast(),
                4,
            )
        };
        check(outcome).unwrap();
        socket::bind(listening.as_fd(), &"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
        socket::listen(listening.as_fd(), 16).unwrap();
        let at = sockaddr::local_name(listening.as_fd()).unwrap().to_inet().unwrap();
        let mut early = TcpStream::connect(at).unwrap();
        assert!(handshakes().is_none_or(|ports| ports.contains(&at.port())));
        bind_to_nowhere(listening.as_fd()).unwrap();
        assert_eq!(TcpStream::connect(at).unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
        early.write_all(b"x").unwrap();
        while socket::accept(listening.as_fd(), libc::SOCK_CLOEXEC).is_err() {
            std::thread::yield_now();
        }
        assert!(handshakes().is_none_or(|ports| !ports.contains(&at.port())));
    }
}
