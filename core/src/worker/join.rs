//! Joining: taking and answering the hello, and from then on ending with the primary.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use nix::errno::Errno;

use super::leaving::Leaving;
use super::messages::Channel;
use super::primary_gone;
use crate::error::{Context, EVERSION, Error, Result};
use crate::scoreboard::OwnBoard;
use crate::sys::{Sys, cmsg, descriptor, lifeline, patiently, pid, watch_thread};
use crate::wire::{self, FromPrimary, FromWorker};

/// How long a worker lives on that does not notice its primary's death. With the time the kernel needs for both, it is gone within a
/// second.
const ORPHAN_GRACE_MS: i32 = 700;

/// What a worker has from its hello.
pub(super) struct Joined {
    pub(super) id: u32,
    pub(super) slot: u32,
    /// The error to return if the primary speaks another version of the protocol.
    pub(super) foreign: Option<Error>,
    pub(super) channel: Arc<Channel>,
    lifeline: OwnedFd,
    /// `None` where there was no memory for it, here or in the primary.
    pub(super) board: Option<Arc<OwnBoard>>,
}

impl Joined {
    /// Takes the hello out of a channel and answers it. Returns the primary's pidfd as well. `None`: another process took the hello.
    pub(super) fn take(channel: OwnedFd) -> Result<Option<(Self, OwnedFd)>> {
        let mut buffer = [0; 256];
        let mut take = || patiently(|| cmsg::receive(channel.as_fd(), &mut buffer, 4, libc::MSG_CMSG_CLOEXEC));
        // EAGAIN is believed only the second time, as in `identity`.
        let mut received = match take().or_else(|errno| if errno == Errno::EAGAIN { take() } else { Err(errno) }) {
            Err(Errno::EAGAIN) => return Ok(None),
            outcome => outcome.context("receiving the hello")?,
        };
        let Ok(FromPrimary::Hello(hello)) = FromPrimary::decode(&buffer[..received.length]) else {
            return Err(no_hello());
        };
        let fds = (received.take_fd(0), received.take_fd(1), received.take_fd(2));
        let (Some(grants), Some(lifeline), Some(primary)) = fds else {
            return Err(Error::new(
                -libc::EMFILE,
                "the hello came without its descriptors; the process has too many open",
            ));
        };
        descriptor::set_close_on_exec(channel.as_fd()).context("fcntl of the channel")?;
        let same_version = hello.version == wire::VERSION;
        let board = received.take_fd(3).filter(|_| same_version).and_then(|file| OwnBoard::new(file.as_fd()).ok());
        let channel = Arc::new(Channel::new(channel, Arc::new(Leaving::new(grants))));
        let online = FromWorker::Online {
            offers: wire::OFFERS_OPTIONS | wire::OFFERS_ROTATION | wire::OFFERS_HAND_BACK,
            version: wire::VERSION,
            nonce: hello.nonce,
            pid: pid::own_pid() as u32,
        };
        // The primary believes nothing before this frame. If it has died, the next call notices.
        let _ = channel.tell(&online.encode(), b"");
        let joined = Self {
            id: hello.worker_id,
            slot: hello.slot,
            foreign: (!same_version).then(|| foreign(hello.version)),
            channel,
            lifeline,
            board: board.map(Arc::new),
        };
        Ok(Some((joined, primary)))
    }

    /// From here on this process leaves by itself when the primary dies.
    pub(super) fn watch(&self, primary: OwnedFd) -> Result<()> {
        primary_gone::wake_at_death(self.channel.as_fd());
        primary_gone::wake_at_death(self.channel.leaving().grants());
        if watch_thread::start(primary, primary_gone::on_death, primary_gone::end, ORPHAN_GRACE_MS).is_err() {
            return self.end_without_thread();
        }
        // If this fails, the kernel ends this process at once, as without the thread.
        let _ = self.only_wake();
        Ok(())
    }

    /// The same for a process that learns of the death by itself, but may be too busy to act, or stopped. `number`: of the primary's
    /// process.
    pub(super) fn follow(&self, primary: OwnedFd, number: u32) -> Result<()> {
        if primary_gone::follow(number) {
            let watched = watch_thread::start(primary, primary_gone::note_death, primary_gone::end, ORPHAN_GRACE_MS);
            if watched.inspect_err(|_| primary_gone::unfollow()).is_err() {
                return self.end_without_thread();
            }
        }
        // SIGCONT only wakes a process that is stopped. If the signal cannot be changed it would kill, so it gets no owner then.
        let _ = self.only_wake().and_then(|()| lifeline::set_owner(self.lifeline.as_fd(), pid::own_pid()));
        Ok(())
    }

    fn only_wake(&self) -> Sys<()> {
        lifeline::set_signal(self.lifeline.as_fd(), libc::SIGCONT)
    }

    /// No thread can watch for the primary's death: there are too many, memory is short, or a filter refuses clone3(2). The kernel
    /// ends this process with its primary instead, without a moment to finish.
    fn end_without_thread(&self) -> Result<()> {
        lifeline::set_owner(self.lifeline.as_fd(), pid::own_pid())
            .and_then(|()| lifeline::kills(self.lifeline.as_fd()))
            .context("starting a thread to watch for the primary's death, and arming the lifeline in its stead")
    }

    /// From here on this process goes on without a primary.
    pub(super) fn outlive(&self) {
        primary_gone::outlive();
        // A failure is no reason to stay.
        let _ = lifeline::set_owner(self.lifeline.as_fd(), 0);
    }
}

pub(super) fn no_hello() -> Error {
    Error::new(-libc::EPROTO, "the channel does not begin with a hello")
}

fn foreign(version: u32) -> Error {
    let text = format!(
        "the primary speaks version {version} of the protocol and this worker version {}; use the same libcluster in both",
        wire::VERSION
    );
    Error::new(EVERSION, text).lasting()
}
