//! Whether this process is a worker.

use std::os::fd::BorrowedFd;

use nix::errno::Errno;

use super::Worker;
use crate::env;
use crate::sys::{cmsg, patiently, socket};
use crate::wire::{FromPrimary, Hello};

/// The worker that the environment says this process is, if the descriptor proves it. The variables are removed in
/// any case; a descriptor that proves to be something else is left as it was.
pub(crate) fn adopt_from_environment() -> Option<Worker> {
    let (id, slot, number) = env::take()?;
    let ours = socket::with_number(number, |fd| is_our_channel(fd, id, slot))?;
    if !ours {
        return None;
    }
    Worker::adopt(socket::adopt_number(number)).ok()
}

/// The primary's process, if the environment's word proves true: see `Worker::adopt_enrolled`. Takes nothing.
pub(super) fn primary_of(number: i32, id: u32, slot: u32) -> Option<u32> {
    socket::with_number(number, |fd| hello_in(fd, id, slot))?.map(|hello| hello.primary_pid)
}

/// A packet socket in which a hello for just this worker waits. A stale or copied environment finds it taken.
fn is_our_channel(fd: BorrowedFd, id: u32, slot: u32) -> bool {
    hello_in(fd, id, slot).is_some()
}

fn hello_in(fd: BorrowedFd, id: u32, slot: u32) -> Option<Hello> {
    let is_packet_socket = socket::nature(fd)
        .is_ok_and(|nature| nature.family == libc::AF_UNIX && nature.kind == libc::SOCK_SEQPACKET && !nature.listening);
    if !is_packet_socket {
        return None;
    }
    let mut buffer = [0; 256];
    // What a process is must not depend on whether memory is short at this moment; and it is asked twice before it is believed
    // that nothing is there, since a worker that takes itself for none would start workers.
    let mut look = || patiently(|| cmsg::receive(fd, &mut buffer, 0, libc::MSG_PEEK));
    let received = look().or_else(|errno| if errno == Errno::EAGAIN { look() } else { Err(errno) }).ok()?;
    match FromPrimary::decode(&buffer[..received.length]) {
        Ok(FromPrimary::Hello(hello)) if hello.worker_id == id && hello.slot == slot => Some(hello),
        _ => None,
    }
}
