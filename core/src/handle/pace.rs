//! Whether a worker keeps up with its mailbox: whether its window grows, and when it counts as stuck.

use std::time::{Duration, Instant};

use crate::mailbox::Mailbox;

/// For how long a mailbox stands still until its member is stuck. Longer than an interval of the watch, because on a busy
/// machine a healthy worker may well not run for one.
const STUCK: Duration = Duration::from_millis(60);
/// A worker that makes room in a full mailbox within this keeps up, and its window may grow.
const KEEPS_UP: Duration = Duration::from_millis(2);
/// One that needs this has fallen behind, and what waits behind it could be served by a neighbour.
const FALLS_BEHIND: Duration = Duration::from_millis(5);

pub(super) struct Pace {
    least: u32,
    most: u32,
    full_since: Option<Instant>,
    /// How much had been taken at the last look; `None`: nothing waited then.
    taken: Option<u64>,
    /// For how long it has been that much.
    still: Duration,
}

impl Pace {
    /// The least window and the most.
    pub(super) fn new(least: u32, most: u32) -> Self {
        Self { least, most, full_since: None, taken: None, still: Duration::ZERO }
    }

    pub(super) fn is_full(&mut self, now: Instant) {
        self.full_since.get_or_insert(now);
    }

    /// Its worker has made room.
    pub(super) fn has_room(&mut self, mailbox: &mut Mailbox) {
        let Some(took) = self.full_since.take().map(|since| since.elapsed()) else { return };
        // Many small hand-overs cost more than a few larger ones, but only a worker that keeps up may have more waiting.
        if took <= KEEPS_UP && mailbox.window() < self.most {
            mailbox.set_window(mailbox.window() + 1);
        } else if took >= FALLS_BEHIND {
            self.narrow(mailbox);
        }
    }

    fn narrow(&self, mailbox: &mut Mailbox) {
        if mailbox.window() > self.least {
            mailbox.set_window(self.least);
        }
    }

    /// Nothing waits, or what was seen before says nothing about what will wait.
    pub(super) fn forget(&mut self) {
        self.taken = None;
    }

    /// One look while something waits. `evidence`: for how long nothing was taken, if that is so. True: it is stuck.
    pub(super) fn look(&mut self, mailbox: &mut Mailbox, evidence: Duration) -> bool {
        let taken = mailbox.taken();
        if self.taken == Some(taken) {
            self.still += evidence;
            self.narrow(mailbox);
        } else {
            self.still = Duration::ZERO;
        }
        self.taken = Some(taken);
        self.still >= STUCK
    }
}
