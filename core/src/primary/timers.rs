//! What is due when. Whoever gets a timer checks whether it still matters; only one that would stay for long after that is cancelled.

use std::collections::BTreeSet;
use std::time::Instant;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// One look at every queue.
    Watch,
    /// Sockets that workers have are looked at.
    Audit,
    /// A handle paused because something was short.
    Pump(u32),
    /// Some slot's worker is to be replaced.
    Restart,
    /// A worker did not leave in time.
    Escalate(u32),
    /// A worker without a pidfd is to be asked whether it has ended.
    Ask(u32),
    /// A worker's socket was short of something.
    Flush(u32),
    /// Something could not be registered with the poll.
    Repair,
    /// A listen may be answered by now.
    Listen,
    /// Memory was short for what a worker has sent.
    Read(u32),
    /// A signal has asked a worker to leave.
    Signalled(u32),
    /// Addresses are being closed: whether workers can be told to leave.
    Closing,
    /// A stop has gone on serving for as long as it was to.
    Drained,
    /// A handle has had no worker for long.
    Unattended(u32),
}

#[derive(Default)]
pub(crate) struct Timers(BTreeSet<(Instant, Timer)>);

impl Timers {
    pub(crate) fn add(&mut self, at: Instant, timer: Timer) {
        self.0.insert((at, timer));
    }

    /// Takes a timer away that is not due yet.
    pub(crate) fn cancel(&mut self, at: Instant, timer: Timer) {
        self.0.remove(&(at, timer));
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn earliest(&self) -> Option<Instant> {
        self.0.first().map(|(at, _)| *at)
    }

    /// The next timer whose time has come, and what that time was.
    pub(crate) fn due(&mut self, now: Instant) -> Option<(Instant, Timer)> {
        if self.earliest()? > now {
            return None;
        }
        self.0.pop_first()
    }
}
