//! Whether this process is a worker.

use std::os::fd::BorrowedFd;

use super::Worker;
use crate::env;
use crate::sys::{cmsg, socket};
use crate::wire::FromPrimary;

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

/// A packet socket in which a hello for just this worker waits. A stale or copied environment finds it taken.
pub(super) fn is_our_channel(fd: BorrowedFd, id: u32, slot: u32) -> bool {
    let is_packet_socket = socket::nature(fd)
        .is_ok_and(|nature| nature.family == libc::AF_UNIX && nature.kind == libc::SOCK_SEQPACKET && !nature.listening);
    let mut buffer = [0; 256];
    is_packet_socket
        && cmsg::receive(fd, &mut buffer, 0, libc::MSG_PEEK).is_ok_and(|received| {
            matches!(FromPrimary::decode(&buffer[..received.length]),
                Ok(FromPrimary::Hello(hello)) if hello.worker_id == id && hello.slot == slot)
        })
}
