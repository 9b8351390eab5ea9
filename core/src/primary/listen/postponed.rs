//! Listens that are answered a little later. A socket file that a dead server left is replaced only under the lock of its directory
//! (flock(2)), which anybody may hold who can read that; the primary does not sleep until it is free, but looks again.

use std::time::{Duration, Instant};

use crate::primary::clock::{Clock, Timer};
use crate::primary::talk::Asked;

/// How often one looks again, and for how long.
const AGAIN: Duration = Duration::from_millis(10);
pub(crate) const LONGEST: Duration = Duration::from_millis(100);

/// A worker, what it asked for, and until when that may wait.
pub(crate) type Waiting = (u32, Asked, Instant);

/// One of a worker at most.
#[derive(Default)]
pub(crate) struct Postponed(Vec<Waiting>);

impl Postponed {
    /// Something that a worker asked for waits already.
    pub(crate) fn has(&self, worker: u32) -> bool {
        self.0.iter().any(|(one, ..)| *one == worker)
    }

    pub(crate) fn add(&mut self, waiting: Waiting, clock: &mut Clock) {
        if self.0.is_empty() {
            clock.add(Instant::now() + AGAIN, Timer::Listen);
        }
        self.0.push(waiting);
    }

    /// All that wait; the locks may be free now.
    pub(crate) fn take(&mut self) -> Vec<Waiting> {
        std::mem::take(&mut self.0)
    }
}
