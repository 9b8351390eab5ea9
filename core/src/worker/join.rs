//! Joining: the hello is taken and answered, and from then on this process ends with its primary.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use nix::errno::Errno;

use super::leaving::Leaving;
use super::messages::Channel;
use super::primary_gone;
use crate::error::{Context, EVERSION, Error, Result};
use crate::scoreboard::OwnBoard;
use crate::sys::pid::{self, Pid};
use crate::sys::{Sys, cmsg, descriptor, lifeline, patiently, watch_thread};
use crate::wire::{self, FromPrimary, FromWorker};

/// How long a worker that does not notice its primary's death lives on. With the time the kernel needs for both, it is
/// gone within a second.
const ORPHAN_GRACE_MS: i32 = 700;

/// What the hello has made of this process.
pub(super) struct Joined {
    pub(super) id: u32,
    pub(super) slot: u32,
    /// What is said where the primary's version of the protocol is not ours.
    pub(super) foreign: Option<Error>,
    pub(super) channel: Channel,
    pub(super) lifeline: Lifeline,
    /// `None` where there is no memory for it, or the primary has none.
    pub(super) board: Option<Arc<OwnBoard>>,
}

impl Joined {
    /// Takes the hello out of a channel and answers it; also the primary's pidfd. `None`: somebody else has taken it.
    pub(super) fn take(channel: OwnedFd) -> Result<Option<(Self, OwnedFd)>> {
        let mut buffer = [0; 256];
        let mut take = || patiently(|| cmsg::receive(channel.as_fd(), &mut buffer, 4, libc::MSG_CMSG_CLOEXEC));
        // Asked twice before it is believed that nothing is there, as in `identity`.
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
        let channel = Channel::new(channel, Arc::new(Leaving::new(grants)));
        let online = FromWorker::Online {
            offers: wire::OFFERS_OPTIONS,
            version: wire::VERSION,
            nonce: hello.nonce,
            pid: pid::own_pid() as u32,
        };
        // A primary that died meanwhile is noticed at the next call. One that lives believes nothing before this.
        let _ = channel.tell(&online.encode(), b"");
        let joined = Self {
            id: hello.worker_id,
            slot: hello.slot,
            foreign: (!same_version).then(|| foreign(hello.version)),
            channel,
            lifeline: Lifeline(lifeline),
            board: board.map(Arc::new),
        };
        Ok(Some((joined, primary)))
    }

    /// From here on this process leaves by itself when the primary dies.
    pub(super) fn watch(&self, primary: OwnedFd) -> Result<()> {
        primary_gone::wake_at_death(self.channel.as_fd());
        primary_gone::wake_at_death(self.channel.leaving().grants());
        match watch_thread::start(primary, primary_gone::on_death, primary_gone::end, ORPHAN_GRACE_MS) {
            Err(_) => self.lifeline.kill(),
            // Where that fails the kernel ends this process at once, as if there were no thread.
            Ok(()) => {
                let _ = self.lifeline.only_wake();
                Ok(())
            }
        }
    }

    /// The same for a process that learns of the death in a way of its own, of the primary with that number, but may be too busy to
    /// follow, or stopped.
    pub(super) fn follow(&self, primary: OwnedFd, number: u32) -> Result<()> {
        if primary_gone::follow(number) {
            let watched = watch_thread::start(primary, primary_gone::note_death, primary_gone::end, ORPHAN_GRACE_MS);
            if watched.inspect_err(|_| primary_gone::unfollow()).is_err() {
                return self.lifeline.kill();
            }
        }
        // It only wakes one that is stopped when the primary dies. Where it cannot be softened it would kill, and stays nobody's.
        let _ = self.lifeline.only_wake().and_then(|()| self.lifeline.give_to(pid::own_pid()));
        Ok(())
    }
}

/// By which the kernel signals this process when its primary is gone.
pub(super) struct Lifeline(OwnedFd);

impl Lifeline {
    fn give_to(&self, process: Pid) -> Sys<()> {
        lifeline::set_owner(self.0.as_fd(), process)
    }

    fn only_wake(&self) -> Sys<()> {
        lifeline::set_signal(self.0.as_fd(), libc::SIGCONT)
    }

    /// There is no thread to watch for the primary's death (too many, too little memory, a filter that refuses clone3(2)): the
    /// kernel ends this process with its primary, without a moment to finish.
    fn kill(&self) -> Result<()> {
        self.give_to(pid::own_pid())
            .and_then(|()| lifeline::kills(self.0.as_fd()))
            .context("starting a thread to watch for the primary's death, and arming the lifeline in its stead")
    }

    /// Nothing is to be signalled any more. That it could not be told is no reason to stay.
    pub(super) fn let_go(&self) {
        let _ = self.give_to(0);
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
