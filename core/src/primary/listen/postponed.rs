//! Listens that are answered a little later. A socket file that a dead server left is replaced only under the lock of its directory
//! (flock(2)), which anybody may hold who can read that; the primary does not sleep until it is free, but looks again.

use std::time::{Duration, Instant};

use super::addresses::{Addresses, Waiting};
use crate::primary::clock::{Clock, Timer};

/// How often one looks again, and for how long.
const AGAIN: Duration = Duration::from_millis(10);
pub(crate) const LONGEST: Duration = Duration::from_millis(100);

impl Addresses {
    /// Something that a worker asked for waits already.
    pub(crate) fn has_postponed(&self, worker: u32) -> bool {
        self.postponed.iter().any(|(one, ..)| *one == worker)
    }

    pub(crate) fn postpone(&mut self, waiting: Waiting, clock: &mut Clock) {
        if self.postponed.is_empty() {
            clock.add(Instant::now() + AGAIN, Timer::Listen);
        }
        self.postponed.push(waiting);
    }

    /// All that wait; the locks may be free now.
    pub(crate) fn take_postponed(&mut self) -> Vec<Waiting> {
        std::mem::take(&mut self.postponed)
    }
}
