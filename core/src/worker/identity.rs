//! Whether this process is a worker.

use std::os::fd::{BorrowedFd, OwnedFd};

use nix::errno::Errno;

use crate::env::{self, Word};
use crate::error::{Error, Result};
use crate::sys::{cmsg, descriptor, patiently, pid, process, socket};
use crate::wire::{FromPrimary, Hello};

/// The channel of the worker that the environment says this process is, with its id and slot, if the descriptor proves it; `None`:
/// no cluster started it. An error: it was started as a worker, or has the environment of one, and there is no channel that proves
/// it. It may start no workers: a program that is started as a worker, does not notice, and starts workers, does so without end.
///
/// The variables are removed in any case; a descriptor that proves to be something else is left as it was.
pub(crate) fn channel_in_environment() -> Result<Option<(u32, u32, OwnedFd)>> {
    let (id, slot, number) = match env::take() {
        Word::Nothing => return Ok(None),
        Word::Damaged => return Err(stray(DAMAGED)),
        Word::Replaced => {
            return Err(stray_by(
                "has run another program since, which exec(3) took the channel from",
                "let a child of the worker run that program, or call exec(3) before the first cl_ call",
            ));
        }
        Word::Worker { id, slot, channel } => (id, slot, channel),
    };
    match primary_of(number, id, slot) {
        Some(_) => Ok(Some((id, slot, descriptor::adopt_number(number)))),
        None => Err(stray(not_the_channel(number))),
    }
}

/// Another process had the hello first.
pub(crate) fn taken() -> Error {
    stray("another process with the same environment has taken its place")
}

fn stray(what: impl std::fmt::Display) -> Error {
    stray_by(
        what,
        "closefrom(3) at the start of main, or a wrapper that closes descriptors or clears the environment, does this: call \
         cl_is_worker() before it, or keep that descriptor",
    )
}

/// `usual`: what does this, and what to do.
fn stray_by(what: impl std::fmt::Display, usual: &str) -> Error {
    Error::new(
        -libc::ENOTCONN,
        format!(
            "this process was started as a worker, but {what}; {usual}. It may start no workers, as each of these would do the \
             same"
        ),
    )
}

const DAMAGED: &str = "CL_WORKER_ID, CL_WORKER_SLOT and CL_CHANNEL_FD are not as a primary sets them";

/// For a process that reads its environment itself, and is no worker: why it may start none, if these values of its variables say
/// that it was started as one. `usual`: what does this, and what to do. Takes nothing.
pub(super) fn stray_of(values: [Option<&str>; 3], usual: &str) -> Option<Error> {
    match env::word(values.map(|value| value.map(std::ffi::OsStr::new)), process::is_secure_execution()) {
        Word::Nothing | Word::Replaced => None,
        Word::Damaged => Some(stray_by(DAMAGED, usual)),
        Word::Worker { id, slot, channel } => Some(match primary_of(channel, id, slot) {
            Some(_) => stray_by(format_args!("it has not joined (its channel is descriptor {channel})"), usual),
            None => stray_by(not_the_channel(channel), usual),
        }),
    }
}

fn not_the_channel(number: i32) -> String {
    format!("descriptor {number}, which CL_CHANNEL_FD names, is not its channel")
}

/// What every call says that needs the primary.
pub(crate) fn unjoined(error: &Error) -> Error {
    // Also in a signal handler.
    Error::new(error.code(), format!("this worker could not join its primary: {}", error.sentence())).lasting()
}

/// Whether some descriptor is a channel that nobody has taken, although the environment does not say so: somebody has cleared it.
pub(crate) fn stray_channel() -> Option<Error> {
    cleared().map(stray)
}

/// The same for a program that has another `usual` cause.
pub(super) fn stray_channel_by(usual: &str) -> Option<Error> {
    cleared().map(|what| stray_by(what, usual))
}

fn cleared() -> Option<String> {
    let waits =
        |fd: BorrowedFd| matches!(hello_of(fd).map(|hello| hello.primary_pid == pid::own_pid() as u32), Some(false));
    let number =
        descriptor::open_numbers().into_iter().find(|number| descriptor::with_number(*number, waits) == Some(true))?;
    Some(format!("the environment does not say so any more (its channel is descriptor {number})"))
}

/// The primary's process, if the environment's word proves true: see `Worker::adopt_enrolled`. Takes nothing.
pub(super) fn primary_of(number: i32, id: u32, slot: u32) -> Option<u32> {
    descriptor::with_number(number, |fd| hello_in(fd, id, slot))?.map(|hello| hello.primary_pid)
}

/// A stale or copied environment finds it taken.
fn hello_in(fd: BorrowedFd, id: u32, slot: u32) -> Option<Hello> {
    hello_of(fd).filter(|hello| hello.worker_id == id && hello.slot == slot)
}

fn hello_of(fd: BorrowedFd) -> Option<Hello> {
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
        Ok(FromPrimary::Hello(hello)) => Some(hello),
        _ => None,
    }
}
