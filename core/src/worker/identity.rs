//! Whether this process is a worker.

use std::os::fd::{BorrowedFd, OwnedFd};

use nix::errno::Errno;

use crate::env::{self, Word};
use crate::error::{Error, Result};
use crate::sys::{cmsg, descriptor, patiently, pid, process, socket};
use crate::wire::{FromPrimary, Hello};

/// Id, slot and channel of the worker that this process is, if the environment says so and the descriptor proves it. `None`: no
/// cluster started it. An error: it has the environment of a worker, but no channel that proves it. It may start no workers, because
/// a program that is started as a worker, does not notice, and starts workers does so without end.
///
/// Removes the variables in any case, and leaves a descriptor that is something else alone.
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

/// The error of a process whose hello another process has taken.
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

/// `usual`: what usually causes this, and what to do about it.
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

/// Why a process that reads its environment itself may start no workers, if these values of the variables say that it was started
/// as one. Takes nothing.
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

/// The error of every call that needs the primary, in a worker that could not join it.
pub(crate) fn unjoined(error: &Error) -> Error {
    // Copied in signal handlers, too.
    Error::new(error.code(), format!("this worker could not join its primary: {}", error.sentence())).lasting()
}

/// An error if some descriptor is a channel with its hello still in it, which the environment does not mention: somebody has cleared
/// it.
pub(crate) fn stray_channel() -> Option<Error> {
    cleared().map(stray)
}

/// The same with another `usual` cause.
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

/// The primary's process number, if the descriptor is the channel of this worker. Takes nothing.
pub(super) fn primary_of(number: i32, id: u32, slot: u32) -> Option<u32> {
    descriptor::with_number(number, |fd| hello_in(fd, id, slot))?.map(|hello| hello.primary_pid)
}

/// The hello for just this worker. With a stale or copied environment it has been taken already.
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
    // A shortage of memory must not decide what a process is. EAGAIN is believed only the second time, because a worker that takes
    // itself for something else would start workers.
    let mut look = || patiently(|| cmsg::receive(fd, &mut buffer, 0, libc::MSG_PEEK));
    let received = look().or_else(|errno| if errno == Errno::EAGAIN { look() } else { Err(errno) }).ok()?;
    match FromPrimary::decode(&buffer[..received.length]) {
        Ok(FromPrimary::Hello(hello)) => Some(hello),
        _ => None,
    }
}
