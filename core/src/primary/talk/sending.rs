//! What is said to a worker: answers on its grants socket, all else on its channel.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::{Judged, Link};
use crate::channel::Pending;
use crate::error::{Context, Error, Result};
use crate::primary::clock::Timer;
use crate::primary::ground::Ground;
use crate::wire::{self, Answer, Malformed};

/// How soon a socket that was short of something is tried again.
pub(super) const AGAIN: Duration = Duration::from_millis(5);
/// Answers that are kept for a worker when its grants socket is full; the protocol lets it ask so often without reading the answers.
const ANSWERS_KEPT: usize = 64;
/// It asks and asks and does not read: more than what we keep for it.
pub(crate) const UNREAD_ANSWERS: Malformed = Malformed("more questions than it reads answers");

impl Link {
    /// Sends the program's message, or keeps it until there is room.
    pub(crate) fn send_message(&mut self, data: &[u8], ground: &mut Ground) -> Result<()> {
        self.send(&wire::MESSAGE_HEADER, data, ground)
    }

    /// Gives the worker the socket on which it may hand connections back. False: it could not be sent.
    pub(crate) fn give_returns(&mut self, socket: BorrowedFd, ground: &mut Ground) -> bool {
        let state = self.grants.send([&wire::RETURNS, b""], &[socket]);
        let is_sent = state.is_ok();
        self.await_room(state.unwrap_or(Pending::Nothing), ground);
        is_sent
    }

    /// Asks the worker to leave. Twice: where it stays readable, and then between its messages, so that whoever reads the second finds
    /// the first. One whose channel is full or closed finds the stop in its mailboxes.
    pub(crate) fn ask_to_leave(&mut self, ground: &mut Ground) {
        let state = self.grants.send([&wire::DISCONNECT, b""], &[]);
        self.await_room(state.unwrap_or(Pending::Nothing), ground);
        let _ = self.send(&wire::DISCONNECT, &[], ground);
    }

    fn send(&mut self, header: &[u8], body: &[u8], ground: &mut Ground) -> Result<()> {
        let worker = self.worker;
        let gone = || Error::new(-libc::EPIPE, format!("the channel of worker {worker} is closed"));
        match self.channel.as_mut().ok_or_else(gone)?.send([header, body], &[]) {
            Ok(state) => {
                self.await_room(state, ground);
                Ok(())
            }
            Err(Errno::EAGAIN) => Err(Error::new(
                -libc::EAGAIN,
                format!("worker {worker} does not read; 1 MiB is waiting for it already"),
            )),
            Err(_) => Err(gone()),
        }
    }

    /// Sends a grant with its descriptors.
    pub(crate) fn grant(&mut self, grant: &Answer, fds: &[BorrowedFd], ground: &mut Ground) -> Result<()> {
        let state = self.grants.send([&grant.encode(), b""], fds).context("sending a grant")?;
        self.await_room(state, ground);
        Ok(())
    }

    /// Sends an answer that comes without descriptors.
    pub(crate) fn answer(&mut self, answer: &Answer, ground: &mut Ground) -> Judged<()> {
        match self.grants.send([&answer.encode(), b""], &[]) {
            Ok(state) => self.await_room(state, ground),
            Err(Errno::EAGAIN) => return Err(UNREAD_ANSWERS),
            // It is gone, which its pidfd tells.
            Err(_) => {}
        }
        self.check_reads_answers()
    }

    /// Says why something is not done.
    pub(crate) fn refuse(&mut self, number: u32, why: &Error, ground: &mut Ground) -> Judged<()> {
        self.answer(&Answer::Refusal { number, code: why.code(), sentence: why.sentence() }, ground)
    }

    /// An error is for a worker that does not read its answers.
    pub(crate) fn check_reads_answers(&self) -> Judged<()> {
        if self.grants.kept() > ANSWERS_KEPT { Err(UNREAD_ANSWERS) } else { Ok(()) }
    }

    /// Sends what was kept.
    pub(crate) fn flush(&mut self, ground: &mut Ground) {
        let channel = self.channel.as_mut().map_or(Ok(Pending::Nothing), |channel| channel.flush());
        let grants = self.grants.flush();
        for state in [channel, grants] {
            // An error means that the worker is gone, which its pidfd tells.
            self.await_room(state.unwrap_or(Pending::Nothing), ground);
        }
    }

    /// Arranges for another attempt, or for none.
    fn await_room(&mut self, state: Pending, ground: &mut Ground) {
        if state == Pending::Later {
            ground.clock.add(Instant::now() + AGAIN, Timer::Flush(self.worker));
        }
        if self.channel.as_mut().is_some_and(|channel| channel.rearm().is_some()) {
            self.watch_channel(ground.poll);
        }
        if self.grants.rearm().is_some() {
            self.watch_grants(ground.poll);
        }
    }
}
