//! The sockets by which the primary talks with one worker: channel, grants, lifeline.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::allowance::Allowance;
use crate::channel::Channel;
use crate::error::{Context, Result};
use crate::scoreboard::Board;
use crate::sys::poll::{Interest, Poll};
use crate::sys::{Sys, cmsg, lifeline, pid, process, socket};
use crate::token::Token;
use crate::wire::{Hello, VERSION};

pub(crate) struct Link {
    pub(super) worker: u32,
    /// Gone once the worker has closed its end.
    pub(super) channel: Option<Channel>,
    pub(super) grants: Channel,
    /// Its closing, by our death, reaches the worker whatever it does.
    _lifeline: OwnedFd,
    pub(super) nonce: u64,
    /// The worker has said that it is online. Apart from its state: it may be asked to leave before.
    pub(crate) greeted: bool,
    /// It sets socket options later, and knows what says that it may.
    pub(crate) sets_options: bool,
    /// It can accept in rotation.
    pub(crate) rotates: bool,
    /// It can hand connections back.
    pub(crate) hands_back: bool,
    /// The channel is read again after a pause.
    pub(crate) resting: bool,
    /// What reading its frames may take.
    pub(super) allowance: Allowance,
}

/// A link whose worker does not exist yet, with what that is to have of it.
pub(crate) struct NewLink {
    pub(crate) link: Link,
    pub(crate) board: Arc<Board>,
    lifeline: OwnedFd,
    grants: OwnedFd,
    shared_board: Option<OwnedFd>,
    hello: Hello,
}

impl NewLink {
    /// With the worker's end of the channel.
    pub(crate) fn new(id: u32, slot: u32) -> Result<(Self, OwnedFd)> {
        let nonce = process::random();
        let (channel, worker_end) = socket::packet_pair().context("socketpair")?;
        let (grants, worker_grants) = socket::packet_pair().context("socketpair")?;
        let (lifeline_reader, lifeline_writer) = socket::pipe().context("pipe")?;
        // Armed before the worker exists, so that its own softer setting is not overwritten; the owner is named later.
        lifeline::arm(lifeline_reader.as_fd(), libc::SIGKILL).context("arming the lifeline")?;
        let (board, shared_board) = Board::new();
        let link = Link {
            worker: id,
            channel: Some(Channel::new(channel)),
            grants: Channel::sending(grants),
            _lifeline: lifeline_writer,
            nonce,
            greeted: false,
            sets_options: false,
            rotates: false,
            hands_back: false,
            resting: false,
            allowance: Allowance::new(Instant::now()),
        };
        let hello = Hello { version: VERSION, worker_id: id, slot, primary_pid: pid::own_pid() as u32, nonce };
        let board = Arc::new(board);
        Ok((Self { link, board, lifeline: lifeline_reader, grants: worker_grants, shared_board, hello }, worker_end))
    }

    /// Puts the hello into the channel. Without a pidfd of the primary the lifeline stands in for it: its hang-up says the same,
    /// unless another process holds a copy of its other end.
    pub(crate) fn greet(&self, own_pidfd: Option<&OwnedFd>) -> Result<()> {
        let death = own_pidfd.map_or(self.lifeline.as_fd(), |pidfd| pidfd.as_fd());
        let mut fds = vec![self.grants.as_fd(), self.lifeline.as_fd(), death];
        fds.extend(self.shared_board.as_ref().map(|file| file.as_fd()));
        let Some(channel) = &self.link.channel else { return Ok(()) };
        cmsg::send(channel.as_fd(), [&self.hello.encode(), b""], &fds).context("sending the hello")
    }

    /// The worker's end of the lifeline.
    pub(crate) fn lifeline(&self) -> BorrowedFd<'_> {
        self.lifeline.as_fd()
    }
}

impl Link {
    /// Begins to watch what the worker says.
    pub(crate) fn register(&self, poll: &Poll) -> Sys<()> {
        if let Some(channel) = &self.channel {
            poll.add(channel, Token::Channel(self.worker).pack(), Interest::Readable)?;
        }
        poll.add(&self.grants, Token::Grants(self.worker).pack(), Interest::None)
    }

    /// Tells the poll what the channel is watched for. One that rests is watched again when it is read again.
    pub(super) fn watch_channel(&self, poll: &Poll) {
        if let Some(channel) = self.channel.as_ref().filter(|_| !self.resting) {
            let interest = if channel.is_armed() { Interest::ReadableOrWritable } else { Interest::Readable };
            let _ = poll.modify(channel, Token::Channel(self.worker).pack(), interest);
        }
    }

    /// The same of the grants socket.
    pub(super) fn watch_grants(&self, poll: &Poll) {
        let interest = if self.grants.is_armed() { Interest::RoomAppears } else { Interest::None };
        let _ = poll.modify(&self.grants, Token::Grants(self.worker).pack(), interest);
    }

    /// Tells the poll everything again.
    pub(crate) fn watch_again(&self, poll: &Poll) {
        self.watch_channel(poll);
        self.watch_grants(poll);
    }

    /// The worker has not closed its end, and was not cut off.
    pub(crate) fn is_open(&self) -> bool {
        self.channel.is_some()
    }

    /// Closes the channel. False if it was closed before.
    pub(crate) fn close(&mut self, poll: &Poll) -> bool {
        let Some(channel) = self.channel.take() else { return false };
        poll.remove(&channel);
        channel.close();
        true
    }

    /// The worker's process has ended, and the channel is closed.
    pub(crate) fn forget(&self, poll: &Poll) {
        poll.remove(&self.grants);
    }

    /// Takes so much of what reading may take.
    pub(crate) fn charge(&mut self, units: usize) {
        self.allowance.take(units, Instant::now());
    }

    /// The same of what is read beside the channel. For how long nothing more is to be, if it has used all that it may take.
    pub(crate) fn charge_beside(&mut self, units: usize) -> Option<Duration> {
        self.charge(units);
        self.allowance.rest(Instant::now())
    }

    /// The kernel had to check a program for an address that it opened.
    pub(crate) fn charge_choice(&mut self) {
        self.allowance.take_choice(Instant::now());
    }

    /// The worker has sent what was not its turn yet.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn has_unread(&self) -> bool {
        use crate::sys::poll::{Waited, wait_readable};
        let unread = |channel: &Channel| {
            wait_readable(&[channel.as_fd()], Some(std::time::Duration::ZERO)) != Ok(Waited::TimedOut)
        };
        self.channel.as_ref().is_some_and(unread)
    }

    /// Descriptors that are kept for it.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn kept_fds(&self) -> usize {
        self.grants.kept_fds()
    }
}
