#![allow(unsafe_code)] // recvmsg(2) with a control buffer, and descriptors known by number alone.
//! Descriptors that another process attaches to packets for a socket that wants none.
//!
//! Closing one can take as long as its sender likes: a TCP socket waits for SO_LINGER, a file of FUSE for its server. The kernel closes
//! those that a receive discards, and those that lie unread in a socket that is closed, in the thread that makes the call. So they are
//! refused (SO_PASSRIGHTS, Linux 6.16). Where the kernel cannot refuse them, each receive looks for them first, and a thread of its own
//! closes them.

use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicUsize, Ordering};

use nix::errno::Errno;

use super::{Sys, check, cmsg, detached, socket};

/// Not in the libc crate.
const SO_PASSRIGHTS: libc::c_int = 83;
/// The most descriptors of one packet (SCM_MAX_FD of include/net/scm.h).
const MOST: usize = 253;
/// Up to this many packets without descriptors are taken out of a socket before it is closed; a thread takes out any more.
const PLAIN_PACKETS: usize = 64;

/// Threads that close what somebody attached.
static CLOSERS: AtomicUsize = AtomicUsize::new(0);

/// Makes a send with descriptors attached fail with EPERM. False where the kernel cannot do that.
pub(crate) fn refuse(socket: BorrowedFd) -> bool {
    let no: libc::c_int = 0;
    let length = mem::size_of_val(&no) as libc::socklen_t;
    // SAFETY: the option is an int, and the length says so.
    let outcome = unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, SO_PASSRIGHTS, (&raw const no).cast(), length)
    };
    outcome == 0
}

/// Whether descriptors are attached to the next packet; EAGAIN when there is none.
pub(crate) fn next_has_some(socket: BorrowedFd) -> Sys<bool> {
    // Without room for any, the kernel only says that there were some.
    cmsg::receive(socket, &mut [0], 0, libc::MSG_PEEK).map(|peeked| peeked.fds_lost)
}

/// How many threads of this process are not the program's, but close what others attached.
pub(crate) fn closers() -> usize {
    CLOSERS.load(Ordering::SeqCst)
}

/// Closes a socket that may hold attached descriptors, without waiting for these to be closed.
pub(crate) fn close(socket: OwnedFd) {
    socket::finish_receiving(socket.as_fd());
    for _ in 0..PLAIN_PACKETS {
        match look(socket.as_fd()) {
            Ok(Next::Nothing) => return,
            Ok(Next::Plain) => drop(cmsg::receive(socket.as_fd(), &mut [0], 0, 0)),
            Ok(Next::WithDescriptors) | Err(_) => break,
        }
    }
    CLOSERS.fetch_add(1, Ordering::SeqCst);
    let number = socket.into_raw_fd();
    if detached::start(empty_and_close, number as usize as *mut libc::c_void).is_err() {
        // It stays open for good, which is better than waiting.
        CLOSERS.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Closes files that somebody else made, without waiting. Pipes and devices close at once.
pub(crate) fn close_files(files: Vec<OwnedFd>) {
    let kind = |file: &OwnedFd| nix::sys::stat::fstat(file).map_or(0, |stat| stat.st_mode & libc::S_IFMT);
    let is_slow = |file: &OwnedFd| !matches!(kind(file), libc::S_IFIFO | libc::S_IFCHR);
    files.into_iter().filter(is_slow).for_each(close_elsewhere);
}

/// Closes a file of which nothing is known, without waiting, and without asking its file system what it is. Each close(2) may wait, not
/// only that of the last descriptor: a file of FUSE is flushed by each.
pub(crate) fn close_elsewhere(file: OwnedFd) {
    CLOSERS.fetch_add(1, Ordering::SeqCst);
    let number = file.into_raw_fd();
    if detached::start(close_number, number as usize as *mut libc::c_void).is_err() {
        // It stays open for good, which is better than waiting.
        CLOSERS.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Runs on a thread of its own, which may wait.
extern "C" fn close_number(number: *mut libc::c_void) -> *mut libc::c_void {
    // SAFETY: `close_elsewhere` gave the number over.
    let file = unsafe { OwnedFd::from_raw_fd(number as usize as RawFd) };
    socket::do_not_linger(file.as_fd());
    drop(file);
    CLOSERS.fetch_sub(1, Ordering::SeqCst);
    std::ptr::null_mut()
}

#[derive(PartialEq, Eq, Debug)]
enum Next {
    Nothing,
    Plain,
    WithDescriptors,
}

/// An empty packet reads like end of file. With SO_PASSCRED the kernel adds the sender to each packet, but not to end of file.
fn look(socket: BorrowedFd) -> Sys<Next> {
    let yes: libc::c_int = 1;
    let length = mem::size_of_val(&yes) as libc::socklen_t;
    // SAFETY: the option is an int, and the length says so.
    check(unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_PASSCRED, (&raw const yes).cast(), length)
    })?;
    let mut control = [0_u64; CREDENTIALS / 8];
    let (_, length, flags) = receive(socket, control.as_mut_ptr().cast(), CREDENTIALS, libc::MSG_PEEK)?;
    Ok(match (length, flags & libc::MSG_CTRUNC) {
        (0, _) => Next::Nothing,
        (_, 0) => Next::Plain,
        _ => Next::WithDescriptors,
    })
}

/// Room for the sender's credentials and nothing behind them: CMSG_SPACE(sizeof(struct ucred)).
const CREDENTIALS: usize = 32;
/// CMSG_SPACE for both.
const ALL: usize = CREDENTIALS + 16 + MOST.next_multiple_of(2) * 4;

/// One receive without waiting, whose bytes are thrown away. Returns their count, the length of the control data, and the flags.
fn receive(
    socket: BorrowedFd,
    control: *mut libc::c_void,
    room: usize,
    flags: libc::c_int,
) -> Sys<(usize, usize, libc::c_int)> {
    let mut byte = [0_u8];
    let mut iov = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: byte.len() };
    // SAFETY: msghdr is plain data for which all-zero is a valid value.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = &mut iov;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = room;
    let mut once = || {
        message.msg_controllen = room;
        super::retry(|| {
            let flags = flags | libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
            // SAFETY: every pointer in `message` refers to memory that outlives the call, `room` bytes at `control`.
            check(unsafe { libc::recvmsg(socket.as_raw_fd(), &mut message, flags) })
        })
    };
    // As in `cmsg::receive`: reported once, with everything sent before still behind it.
    let length = match once() {
        Err(Errno::ECONNRESET) => once(),
        outcome => outcome,
    }? as usize;
    Ok((length, message.msg_controllen, message.msg_flags))
}

/// Runs on a thread of its own, which may wait. Allocates nothing.
extern "C" fn empty_and_close(number: *mut libc::c_void) -> *mut libc::c_void {
    // SAFETY: `close` gave the number over.
    let socket = unsafe { OwnedFd::from_raw_fd(number as usize as RawFd) };
    let mut control = [0_u64; ALL.div_ceil(8)];
    while let Ok((_, length @ 1.., _)) = receive(socket.as_fd(), control.as_mut_ptr().cast(), ALL, 0) {
        close_all(&control, length);
    }
    drop(socket);
    CLOSERS.fetch_sub(1, Ordering::SeqCst);
    std::ptr::null_mut()
}

/// Closes received descriptors, sockets without lingering.
fn close_all(control: &[u64], length: usize) {
    // SAFETY: msghdr is plain data for which all-zero is a valid value.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_control = control.as_ptr().cast_mut().cast();
    message.msg_controllen = length.min(mem::size_of_val(control));
    // SAFETY: control data that the kernel has written, of the length it gave.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(&message) };
    while !header.is_null() {
        // SAFETY: a non-null header from CMSG_FIRSTHDR/NXTHDR lies inside the control buffer.
        let cmsg = unsafe { &*header };
        if cmsg.cmsg_level == libc::SOL_SOCKET && cmsg.cmsg_type == libc::SCM_RIGHTS {
            // SAFETY: CMSG_LEN only computes.
            let bytes = cmsg.cmsg_len.saturating_sub(unsafe { libc::CMSG_LEN(0) } as usize);
            // SAFETY: the data of a valid header follows it.
            let data = unsafe { libc::CMSG_DATA(header) }.cast::<RawFd>();
            for index in 0..bytes / mem::size_of::<RawFd>() {
                // SAFETY: index lies within the length the kernel gave; the data may be unaligned.
                let raw = unsafe { data.wrapping_add(index).read_unaligned() };
                // SAFETY: the kernel has just installed this descriptor for us, nobody else owns it.
                let fd = unsafe { OwnedFd::from_raw_fd(raw) };
                let off = libc::linger { l_onoff: 0, l_linger: 0 };
                let length = mem::size_of_val(&off) as libc::socklen_t;
                // SAFETY: pointer and length describe one struct; ENOTSOCK for what is no socket.
                unsafe {
                    libc::setsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, libc::SO_LINGER, (&raw const off).cast(), length)
                };
            }
        }
        // SAFETY: as for CMSG_FIRSTHDR.
        header = unsafe { libc::CMSG_NXTHDR(&message, header) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    fn wait_for_closers() {
        let deadline = Instant::now() + Duration::from_secs(10);
        while closers() > 0 {
            assert!(Instant::now() < deadline, "a thread is still closing");
            std::thread::yield_now();
        }
    }

    #[test]
    fn packets_are_told_apart_also_those_without_bytes() {
        let (ours, theirs) = socket::packet_pair().unwrap();
        assert_eq!(next_has_some(ours.as_fd()), Err(Errno::EAGAIN));
        cmsg::send(theirs.as_fd(), [b"", b""], &[]).unwrap();
        assert_eq!((next_has_some(ours.as_fd()), look(ours.as_fd())), (Ok(false), Ok(Next::Plain)));
        cmsg::receive(ours.as_fd(), &mut [0], 0, 0).unwrap();
        cmsg::send(theirs.as_fd(), [b"", b""], &[theirs.as_fd()]).unwrap();
        assert_eq!(look(ours.as_fd()), Ok(Next::WithDescriptors));
        let mut control = [0_u64; ALL.div_ceil(8)];
        let (_, length, _) = receive(ours.as_fd(), control.as_mut_ptr().cast(), ALL, 0).unwrap();
        close_all(&control, length);
        drop(theirs);
        assert_eq!(look(ours.as_fd()), Ok(Next::Nothing));
    }

    #[test]
    fn what_is_attached_ends_with_the_socket_and_more_than_fits_does_not_stay() {
        for empties in [0, 3, PLAIN_PACKETS + 1] {
            let (ours, theirs) = socket::packet_pair().unwrap();
            let (attached, far_end) = socket::packet_pair().unwrap();
            for _ in 0..empties {
                cmsg::send(theirs.as_fd(), [b"", b""], &[]).unwrap();
            }
            cmsg::send(theirs.as_fd(), [b"x", b""], &[attached.as_fd(), attached.as_fd()]).unwrap();
            drop(attached);
            close(ours);
            let ended = super::super::poll::wait_readable(&[far_end.as_fd()], Some(Duration::from_secs(10)));
            assert_eq!(ended, Ok(super::super::poll::Waited::Ready));
            wait_for_closers();
        }
    }

    #[test]
    fn who_attaches_something_is_refused_where_the_kernel_can() {
        let (ours, theirs) = socket::packet_pair().unwrap();
        if refuse(ours.as_fd()) {
            assert_eq!(cmsg::send(theirs.as_fd(), [b"x", b""], &[theirs.as_fd()]), Err(Errno::EPERM));
            assert_eq!(cmsg::send(ours.as_fd(), [b"x", b""], &[ours.as_fd()]), Ok(()));
        }
    }
}
