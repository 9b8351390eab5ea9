#![allow(unsafe_code)] // sendmsg(2) and recvmsg(2) with descriptors: the control buffer is raw memory.
#![allow(clippy::multiple_unsafe_ops_per_block)] // A pointer's step and its use are one thought.
//! Packets with descriptors.
//!
//! Received descriptors are owned from the first instruction: the control buffer is parsed before anything else is
//! looked at, also when the kernel says it was truncated, so that no error path can leak one.

use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;

use super::{Sys, check, descriptor};

/// The most descriptors that one packet of our protocol carries.
pub(crate) const MAX_FDS: usize = 4;

// Room for one header and MAX_FDS descriptors.
const CONTROL_WORDS: usize = 4;

#[repr(C, align(8))]
struct Control([u64; CONTROL_WORDS]);

/// What one receive brought.
pub(crate) struct Received {
    /// Bytes of the packet; of its real length when `Flags::PEEK_LENGTH` was asked for.
    pub(crate) length: usize,
    /// The descriptors, in the order they were sent.
    pub(crate) fds: [Option<OwnedFd>; MAX_FDS],
    /// Descriptors were sent that could not be kept.
    pub(crate) fds_lost: bool,
    /// The packet was longer than the buffer.
    pub(crate) truncated: bool,
}

impl Received {
    pub(crate) fn take_fd(&mut self, index: usize) -> Option<OwnedFd> {
        self.fds.get_mut(index).and_then(Option::take)
    }
}

/// Sends one packet. Never blocks, never raises SIGPIPE.
pub(crate) fn send(socket: BorrowedFd, parts: [&[u8]; 2], fds: &[BorrowedFd]) -> Sys<()> {
    super::panics::point();
    let mut control = Control([0; CONTROL_WORDS]);
    let mut iov = parts.map(|part| libc::iovec { iov_base: part.as_ptr() as *mut libc::c_void, iov_len: part.len() });
    // SAFETY: msghdr is plain data for which all-zero is a valid value.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = iov.as_mut_ptr();
    message.msg_iovlen = iov.len();
    if !fds.is_empty() {
        debug_assert!(fds.len() <= MAX_FDS);
        let bytes = mem::size_of_val(fds) as u32;
        // SAFETY: CMSG_SPACE only computes.
        let space = unsafe { libc::CMSG_SPACE(bytes) } as usize;
        if space > mem::size_of::<Control>() {
            return Err(Errno::EINVAL);
        }
        message.msg_control = (&raw mut control).cast();
        message.msg_controllen = space;
        // SAFETY: the control buffer is set, aligned, and has room for one header, so the pointer is not NULL.
        let header = unsafe { &mut *libc::CMSG_FIRSTHDR(&message) };
        header.cmsg_level = libc::SOL_SOCKET;
        header.cmsg_type = libc::SCM_RIGHTS;
        // SAFETY: CMSG_LEN only computes.
        header.cmsg_len = unsafe { libc::CMSG_LEN(bytes) } as usize;
        // SAFETY: the data area of this header lies inside `control`, as `space` was checked against its size.
        let data = unsafe { libc::CMSG_DATA(header) }.cast::<RawFd>();
        for (index, fd) in fds.iter().enumerate() {
            // SAFETY: index < fds.len(), for which the data area has room; it may be unaligned for an int.
            unsafe { data.add(index).write_unaligned(fd.as_raw_fd()) };
        }
    }
    super::retry(|| {
        // SAFETY: every pointer in `message` refers to memory that outlives the call.
        check(unsafe { libc::sendmsg(socket.as_raw_fd(), &message, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) })
    })
    .map(|_| ())
}

/// Receives one packet without blocking. `flags` may hold MSG_PEEK, MSG_TRUNC and MSG_CMSG_CLOEXEC. With `max_fds` 0
/// the kernel discards descriptors instead of installing them.
pub(crate) fn receive(socket: BorrowedFd, buffer: &mut [u8], max_fds: usize, flags: i32) -> Sys<Received> {
    super::panics::point();
    let mut control = Control([0; CONTROL_WORDS]);
    let mut iov = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: msghdr is plain data for which all-zero is a valid value.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = &mut iov;
    message.msg_iovlen = 1;
    let room = max_fds.min(MAX_FDS);
    if room > 0 {
        message.msg_control = (&raw mut control).cast();
        // SAFETY: CMSG_LEN only computes. LEN rather than SPACE leaves no alignment slack for a surplus descriptor.
        message.msg_controllen = unsafe { libc::CMSG_LEN((room * mem::size_of::<RawFd>()) as u32) } as usize;
    }
    let mut receive_once = || {
        super::retry(|| {
            // SAFETY: every pointer in `message` refers to memory that outlives the call.
            check(unsafe { libc::recvmsg(socket.as_raw_fd(), &mut message, flags | libc::MSG_DONTWAIT) })
        })
    };
    // A peer that closed with something unread causes this error, once. What it sent before is still there.
    let length = match receive_once() {
        Err(Errno::ECONNRESET) => receive_once(),
        outcome => outcome,
    }? as usize;
    let close_on_exec = flags & libc::MSG_CMSG_CLOEXEC != 0;
    let fds = if room > 0 { take_fds(&message, close_on_exec) } else { Default::default() };
    Ok(Received {
        length,
        fds,
        fds_lost: message.msg_flags & libc::MSG_CTRUNC != 0,
        truncated: message.msg_flags & libc::MSG_TRUNC != 0,
    })
}

/// Takes ownership of every descriptor the kernel put into the control buffer; surplus ones are closed.
fn take_fds(message: &libc::msghdr, close_on_exec: bool) -> [Option<OwnedFd>; MAX_FDS] {
    let mut fds: [Option<OwnedFd>; MAX_FDS] = Default::default();
    let mut found = 0;
    // SAFETY: the kernel set msg_controllen to what it filled of our buffer.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(message) };
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
                let raw = unsafe { data.add(index).read_unaligned() };
                // SAFETY: the kernel has just installed this descriptor for us, nobody else owns it.
                let fd = unsafe { OwnedFd::from_raw_fd(raw) };
                if let Some(place) = fds.get_mut(found) {
                    *place = Some(descriptor::connection(fd, close_on_exec));
                }
                found += 1;
            }
        }
        // SAFETY: as for CMSG_FIRSTHDR.
        header = unsafe { libc::CMSG_NXTHDR(message, header) };
    }
    fds
}
