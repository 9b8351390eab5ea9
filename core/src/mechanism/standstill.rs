//! Whether a worker stands still: something waits for it and it takes nothing, though it could run.

use std::time::Duration;

use super::look::Look;
use crate::sys::process::ProcessorTime;

/// What the looks at an own socket have shown while something waited there.
#[derive(Default)]
pub(super) struct Standstill {
    /// What showed progress at the last look: connections taken, and the worker's sign of life; `None`: nothing waited then.
    /// Neither is enough alone. A SYN without a connection looks like one that was taken, and a worker that is alive may
    /// leave just this socket alone.
    signs: Option<(u64, Option<u64>)>,
    /// Nothing had moved between two looks; from then on it counts.
    suspected: bool,
    since: Duration,
    /// The processor time that the worker had had by then.
    before: Option<ProcessorTime>,
}

impl Standstill {
    /// True when the worker has stood still for too long, and not for want of a processor.
    pub(super) fn look(&mut self, look: &Look, worker: u32, taken: u64) -> bool {
        let alive = look.workers.sign_of_life(worker);
        let moved = self.signs.is_none_or(|(before, sign)| taken != before && (alive.is_none() || alive != sign));
        if moved {
            *self = Self { signs: Some((taken, alive)), ..Self::default() };
            return false;
        }
        // A file of /proc, and so only for one that is suspected.
        let now = look.workers.processor_time(worker);
        if !self.suspected {
            self.suspected = true;
            self.before = now;
            return false;
        }
        // A worker that is ready to run waits for a processor. `waited` includes that time only once it gets one.
        if !now.is_some_and(|now| now.ready) {
            // More than one look, in case it was the primary that stood still.
            self.since += look.elapsed.min(look.patience / 2);
        }
        let (ran, waited) = match (self.before, now) {
            (Some(before), Some(now)) => (now.ran.saturating_sub(before.ran), now.waited.saturating_sub(before.waited)),
            _ => (Duration::ZERO, Duration::ZERO),
        };
        ran >= look.patience / look.part_of_running || self.since.saturating_sub(waited) >= look.patience
    }

    /// Nothing moved between the last two looks.
    pub(super) fn is_suspected(&self) -> bool {
        self.suspected
    }

    /// Nothing moved between two looks, and the worker did not wait for a processor.
    pub(super) fn is_asleep(&self) -> bool {
        self.suspected && !self.before.is_some_and(|then| then.ready)
    }
}
