#![allow(unsafe_code)]
// accept4(2), bind(2) with any family and the queue ioctls have no safe wrapper that keeps all we need.
//! Sockets: making them, accepting from them, asking how full they are, setting their options.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, Backlog, Shutdown, SockFlag, SockType, setsockopt, shutdown, sockopt};

use super::sockaddr::SockAddr;
use super::{Sys, check, descriptor};

/// A pair of connected packet sockets: packets are never merged or split, and an end that closes is seen by the other.
pub(crate) fn packet_pair() -> Sys<(OwnedFd, OwnedFd)> {
    super::panics::point();
    let (one, other) =
        nix::sys::socket::socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
    Ok((descriptor::above_standard(one)?, descriptor::above_standard(other)?))
}

/// A pipe: read end, write end.
pub(crate) fn pipe() -> Sys<(OwnedFd, OwnedFd)> {
    let mut ends = [-1; 2];
    // SAFETY: the array has room for both descriptors.
    check(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) })?;
    // SAFETY: pipe2 has just made this descriptor for us.
    let reader = unsafe { OwnedFd::from_raw_fd(ends[0]) };
    // SAFETY: as above.
    let writer = unsafe { OwnedFd::from_raw_fd(ends[1]) };
    Ok((descriptor::above_standard(reader)?, descriptor::above_standard(writer)?))
}

/// A stream or datagram socket of a family, close-on-exec and, for listening, never blocking in accept.
pub(crate) fn open(family: i32, datagram: bool) -> Sys<OwnedFd> {
    super::panics::point();
    let kind = if datagram { libc::SOCK_DGRAM } else { libc::SOCK_STREAM | libc::SOCK_NONBLOCK };
    // SAFETY: socket(2) takes only integers.
    let fd = check(unsafe { libc::socket(family, kind | libc::SOCK_CLOEXEC, 0) })?;
    descriptor::take(fd)
}

pub(crate) fn bind(socket: BorrowedFd, address: &SockAddr) -> Sys<()> {
    super::panics::point();
    // SAFETY: pointer and length describe one initialised address.
    check(unsafe { libc::bind(socket.as_raw_fd(), address.as_ptr(), address.length()) }).map(|_| ())
}

pub(crate) fn listen(socket: BorrowedFd, backlog: i32) -> Sys<()> {
    super::panics::point();
    nix::sys::socket::listen(
        &socket,
        Backlog::new(backlog).or(Backlog::new(libc::SOMAXCONN)).unwrap_or(Backlog::MAXCONN),
    )
}

/// Connects without waiting; only used to see whether somebody listens on a unix socket.
pub(crate) fn connect(socket: BorrowedFd, address: &SockAddr) -> Sys<()> {
    super::retry(|| {
        // SAFETY: pointer and length describe one initialised address.
        check(unsafe { libc::connect(socket.as_raw_fd(), address.as_ptr(), address.length()) })
    })
    .map(|_| ())
}

/// accept4(2). `flags` may hold SOCK_NONBLOCK and SOCK_CLOEXEC.
pub(crate) fn accept(listener: BorrowedFd, flags: i32) -> Sys<(OwnedFd, SockAddr)> {
    super::panics::point();
    let (fd, peer) = SockAddr::fill(|address, length| {
        // SAFETY: `fill` passes a buffer and its length.
        unsafe { libc::accept4(listener.as_raw_fd(), address, length, flags) }
    })?;
    // SAFETY: the kernel has just made this descriptor for us.
    let accepted = unsafe { OwnedFd::from_raw_fd(fd) };
    Ok((descriptor::connection(accepted, flags & libc::SOCK_CLOEXEC != 0), peer))
}

/// The same without the peer's address, which spares a copy.
pub(crate) fn accept_alone(listener: BorrowedFd, flags: i32) -> Sys<OwnedFd> {
    super::panics::point();
    let (nobody, no_length) = (std::ptr::null_mut(), std::ptr::null_mut());
    // SAFETY: accept4(2) writes no address where none is asked for.
    let fd = check(unsafe { libc::accept4(listener.as_raw_fd(), nobody, no_length, flags) })?;
    // SAFETY: the kernel has just made this descriptor for us.
    let accepted = unsafe { OwnedFd::from_raw_fd(fd) };
    Ok(descriptor::connection(accepted, flags & libc::SOCK_CLOEXEC != 0))
}

/// True for errors of accept(2) about a connection that failed before it was accepted, not about the listening socket ("Error handling"
/// in the man page).
pub(crate) fn is_of_one_connection(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::ECONNABORTED
            | Errno::EINTR
            | Errno::EPROTO
            | Errno::EPERM
            | Errno::ENETDOWN
            | Errno::ENOPROTOOPT
            | Errno::EHOSTDOWN
            | Errno::ENONET
            | Errno::EHOSTUNREACH
            | Errno::EOPNOTSUPP
            | Errno::ENETUNREACH
            | Errno::ETIMEDOUT
    )
}

/// Bytes of the packets sent on this socket that the other end has not received, as the kernel counts them.
pub(crate) fn unread_by_peer(socket: BorrowedFd) -> Sys<usize> {
    super::panics::point();
    let mut bytes: libc::c_int = 0;
    // SAFETY: SIOCOUTQ (the same number as TIOCOUTQ) writes one int.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &mut bytes) })?;
    Ok(bytes.max(0) as usize)
}

/// Connections that wait to be accepted from a TCP socket; `None` when it does not listen (any more).
pub(crate) fn listening_backlog(socket: BorrowedFd) -> Sys<Option<u32>> {
    Ok(listening(socket)?.map(|info| info.tcpi_unacked))
}

/// How many connections may wait there.
pub(crate) fn listening_room(socket: BorrowedFd) -> Sys<Option<u32>> {
    Ok(listening(socket)?.map(|info| info.tcpi_sacked))
}

/// What the kernel knows of a TCP socket that listens. Two fields have another meaning then (tcp_get_info): the length of the accept
/// queue and its limit.
fn listening(socket: BorrowedFd) -> Sys<Option<libc::tcp_info>> {
    let mut info = std::mem::MaybeUninit::<libc::tcp_info>::zeroed();
    let mut length = std::mem::size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes, all of plain integers.
    let outcome = unsafe {
        libc::getsockopt(socket.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, info.as_mut_ptr().cast(), &mut length)
    };
    check(outcome)?;
    // SAFETY: zeroed, and integers are valid whatever the kernel wrote.
    let info = unsafe { info.assume_init() };
    // TCP_LISTEN of include/net/tcp_states.h.
    const LISTEN: u8 = 10;
    Ok((info.tcpi_state == LISTEN).then_some(info))
}

/// Bytes of the next packet that waits here, 0 when there is none (or an empty one).
#[cfg(test)]
pub(crate) fn waiting_here(socket: BorrowedFd) -> Sys<usize> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: FIONREAD writes one int.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::FIONREAD, &mut bytes) })?;
    Ok(bytes.max(0) as usize)
}

/// Asks for a send buffer; the kernel doubles the number and has a lower limit (socket(7)).
pub(crate) fn set_send_buffer(socket: BorrowedFd, bytes: usize) -> Sys<()> {
    super::panics::point();
    setsockopt(&socket, sockopt::SndBuf, &bytes)
}

/// setsockopt(2) with whatever it is given.
pub(crate) fn set_any(socket: BorrowedFd, level: i32, name: i32, value: &[u8]) -> Sys<()> {
    let length = value.len() as libc::socklen_t;
    // SAFETY: pointer and length describe initialised bytes.
    check(unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, value.as_ptr().cast(), length) }).map(|_| ())
}

pub(crate) fn set_reuse_address(socket: BorrowedFd) -> Sys<()> {
    setsockopt(&socket, sockopt::ReuseAddr, &true)
}

pub(crate) fn set_reuse_port(socket: BorrowedFd) -> Sys<()> {
    setsockopt(&socket, sockopt::ReusePort, &true)
}

pub(crate) fn clear_reuse_port(socket: BorrowedFd) -> Sys<()> {
    setsockopt(&socket, sockopt::ReusePort, &false)
}

/// True if SO_REUSEPORT is set. A listening socket of a group that loses it is found before the group and gets all of the group's
/// connections (inet_lhash2_lookup).
pub(crate) fn is_reuse_port(socket: BorrowedFd) -> Sys<bool> {
    Ok(option(socket, libc::SO_REUSEPORT)? != 0)
}

pub(crate) fn set_ipv6_only(socket: BorrowedFd, only: bool) -> Sys<()> {
    setsockopt(&socket, sockopt::Ipv6V6Only, &only)
}

pub(crate) fn is_ipv6_only(socket: BorrowedFd) -> Sys<bool> {
    nix::sys::socket::getsockopt(&socket, sockopt::Ipv6V6Only)
}

/// Makes a TCP socket stop listening, in every process that has it. It stays bound, so listen(2) can make it listen again.
pub(crate) fn stop_listening(socket: BorrowedFd) {
    // ENOTCONN: it does not listen.
    let _ = shutdown(socket.as_raw_fd(), Shutdown::Read);
}

/// Wakes everybody who waits for connections on this socket. On one that listens it does nothing else (inet_shutdown and
/// unix_shutdown of Linux 5.4 to 6.18).
pub(crate) fn rouse(listening: BorrowedFd) {
    let _ = shutdown(listening.as_raw_fd(), Shutdown::Write);
}

/// Wakes everybody who waits for packets on this socket; they read end of file once it is empty.
pub(crate) fn finish_receiving(socket: BorrowedFd) {
    let _ = shutdown(socket.as_raw_fd(), Shutdown::Read);
}

/// Switches SO_LINGER off (socket(7)) on a connection that a worker could reach. Otherwise whoever closes it last, the primary or another
/// worker, waits for its client as long as the option says.
pub(crate) fn do_not_linger(connection: BorrowedFd) {
    let lingers = nix::sys::socket::getsockopt(&connection, sockopt::Linger);
    if lingers.is_ok_and(|linger| linger.l_onoff != 0 && linger.l_linger > 0) {
        let _ = setsockopt(&connection, sockopt::Linger, &libc::linger { l_onoff: 0, l_linger: 0 });
    }
}

/// What a descriptor from outside turns out to be.
pub(crate) struct Nature {
    pub(crate) family: i32,
    pub(crate) kind: i32,
    pub(crate) listening: bool,
}

/// Asks what a socket is; ENOTSOCK and EBADF for what is none.
pub(crate) fn nature(socket: BorrowedFd) -> Sys<Nature> {
    Ok(Nature {
        family: option(socket, libc::SO_DOMAIN)?,
        kind: option(socket, libc::SO_TYPE)?,
        listening: option(socket, libc::SO_ACCEPTCONN)? != 0,
    })
}

/// Resets the options of a packet socket by which the kernel adds credentials, labels and pidfds to what is received, or peeks elsewhere
/// than at the beginning.
pub(crate) fn receive_plainly(socket: BorrowedFd) {
    // Not in the libc crate for every target; Linux 6.5.
    const PASS_PIDFD: i32 = 76;
    for (name, plain) in [(libc::SO_PASSCRED, 0), (libc::SO_PASSSEC, 0), (PASS_PIDFD, 0), (libc::SO_PEEK_OFF, -1)] {
        if option(socket, name).is_ok_and(|value| value != plain) {
            // SAFETY: the option is an int, and the length says so.
            let _ = unsafe {
                libc::setsockopt(
                    socket.as_raw_fd(),
                    libc::SOL_SOCKET,
                    name,
                    (&raw const plain).cast(),
                    std::mem::size_of_val(&plain) as libc::socklen_t,
                )
            };
        }
    }
}

pub(super) fn option(socket: BorrowedFd, name: i32) -> Sys<i32> {
    let mut value: libc::c_int = 0;
    let mut length = std::mem::size_of_val(&value) as libc::socklen_t;
    // SAFETY: the option is an int, and the length says so.
    let outcome =
        unsafe { libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, name, (&raw mut value).cast(), &mut length) };
    check(outcome)?;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn unread_packets_are_counted_until_they_are_received() {
        let (ours, theirs) = packet_pair().unwrap();
        assert_eq!(unread_by_peer(ours.as_fd()).unwrap(), 0);
        super::super::cmsg::send(ours.as_fd(), [b"one", b""], &[]).unwrap();
        assert!(unread_by_peer(ours.as_fd()).unwrap() > 0);
        assert_eq!(waiting_here(theirs.as_fd()).unwrap(), 3);
        super::super::cmsg::receive(theirs.as_fd(), &mut [0; 8], 0, 0).unwrap();
        assert_eq!(unread_by_peer(ours.as_fd()).unwrap(), 0);
    }
}
