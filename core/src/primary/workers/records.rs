//! How the lives of each slot's workers went, and what that means for the next.

use std::time::Duration;

use crate::error::Error;
use crate::restart::{Backoff, Life};

/// So many failures of every slot in a row are enough while nothing has ever listened.
pub(super) const FAILURES: u32 = 3;

/// What failed in one slot, time after time.
#[derive(Default)]
struct Failures {
    count: u32,
    last: Option<Error>,
}

impl Failures {
    fn note(&mut self, failure: Option<Error>) {
        self.count = if failure.is_some() { self.count.saturating_add(1) } else { 0 };
        self.last = failure;
    }

    fn are_enough(&self) -> bool {
        self.count >= FAILURES
    }
}

#[derive(Default)]
struct Record {
    backoff: Backoff,
    failures: Failures,
    /// How the last worker ended, until somebody asks.
    last: Option<Ended>,
}

/// The end of a worker that is to be replaced, as far as it matters for the next.
#[derive(Default)]
pub(super) struct Ended {
    pub(super) life: Life,
    /// Why it never listened.
    pub(super) failure: Option<Error>,
    /// The next is not made sooner than this.
    pub(super) least: Duration,
}

/// An enrolled worker that has ended, until the program says that it has.
pub(super) struct Left {
    pub(super) slot: u32,
    /// It had the slot's place.
    pub(super) sat: bool,
    pub(super) served: bool,
    pub(super) ended: Ended,
}

#[derive(Default)]
pub(super) struct Records(Vec<Record>);

impl Records {
    fn of(&mut self, slot: u32) -> &mut Record {
        let index = slot as usize;
        if self.0.len() <= index {
            self.0.resize_with(index + 1, Record::default);
        }
        &mut self.0[index]
    }

    pub(super) fn note(&mut self, slot: u32, ended: Ended) {
        self.of(slot).last = Some(ended);
    }

    /// How the last one ended, once.
    pub(super) fn take(&mut self, slot: u32) -> Option<Ended> {
        self.of(slot).last.take()
    }

    /// How long the next one has to wait.
    pub(super) fn delay(&mut self, slot: u32, ended: Ended, limits: (Duration, Duration), jitter: f64) -> Duration {
        let record = self.of(slot);
        record.failures.note(ended.failure);
        record.backoff.next(ended.life, limits.0, limits.1, jitter).max(ended.least)
    }

    /// How many slots there are and the most telling failure, when all of them have failed too often.
    pub(super) fn hopeless(&self, slots: impl Iterator<Item = u32> + Clone) -> Option<(usize, &Error)> {
        let failures = || slots.clone().map(|slot| self.0.get(slot as usize).map(|record| &record.failures));
        if !failures().all(|failures| failures.is_some_and(Failures::are_enough)) {
            return None;
        }
        // That an address is taken says more than that somebody never spoke.
        let last = || failures().flatten().filter_map(|failures| failures.last.as_ref());
        let failure = last().find(|failure| failure.code() != -libc::ENOTCONN).or_else(|| last().next())?;
        Some((slots.clone().count(), failure))
    }
}
