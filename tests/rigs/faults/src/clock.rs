//! The clock that clients, workers and the rig share: CLOCK_MONOTONIC in nanoseconds.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

pub const MS: u64 = 1_000_000;
pub const SECOND: u64 = 1000 * MS;

pub fn now() -> u64 {
    // The clock exists on every Linux.
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |time| Duration::from(time).as_nanos() as u64)
}

pub fn ms(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / MS as f64
}

/// Waits until something is so, looking every other millisecond; says whether it came to pass.
pub fn wait_until(limit: Duration, mut is_so: impl FnMut() -> bool) -> bool {
    let deadline = now() + limit.as_nanos() as u64;
    while !is_so() {
        if now() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    true
}
