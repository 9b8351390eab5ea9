//! How much of the primary's time the frames of one worker may take: so much at once, and so much in the long run. Pure.

use std::time::{Duration, Instant};

/// For a unit, which is a frame without much work behind it: 16,000 in a second.
const UNIT: Duration = Duration::from_nanos(62_500);
/// What a worker that was silent for a second may take at once.
const UNITS_AT_ONCE: u32 = 16_384;
/// Whoever has used all waits at least so long, or it would wake the primary for a frame each.
const REST: Duration = Duration::from_millis(1);

/// What a worker's frames may take, as the time up to which it is used.
pub(crate) struct Allowance {
    used_until: Instant,
}

impl Allowance {
    /// A full one.
    pub(crate) fn new(now: Instant) -> Self {
        Self { used_until: since(now) }
    }

    /// Takes so many units, also more than are left.
    pub(crate) fn take(&mut self, units: usize, now: Instant) {
        let units = u32::try_from(units).unwrap_or(u32::MAX);
        self.used_until = self.used_until.max(since(now)) + UNIT.saturating_mul(units);
    }

    /// How long it has to wait when all is used.
    pub(crate) fn rest(&self, now: Instant) -> Option<Duration> {
        let owed = self.used_until.saturating_duration_since(now);
        (!owed.is_zero()).then(|| owed.max(REST))
    }
}

/// From when on an allowance that is full now has grown. (A machine may have been started just before.)
fn since(now: Instant) -> Instant {
    now.checked_sub(UNIT * UNITS_AT_ONCE).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_much_at_once_and_then_as_much_as_grows() {
        let mut now = Instant::now() + Duration::from_secs(10);
        let mut allowance = Allowance::new(now);
        allowance.take(UNITS_AT_ONCE as usize, now);
        assert_eq!(allowance.rest(now), None);
        allowance.take(1, now);
        assert_eq!(allowance.rest(now), Some(REST));
        // In a second of resting when it has to, taking 16 at a time.
        let (end, mut taken) = (now + Duration::from_secs(1), 0);
        while now < end {
            match allowance.rest(now) {
                Some(rest) => now += rest,
                None => {
                    allowance.take(16, now);
                    taken += 16;
                }
            }
        }
        assert!((16_000 - 16..=16_000 + 16).contains(&taken), "{taken}");
    }

    #[test]
    fn what_is_not_used_does_not_grow_for_ever() {
        let now = Instant::now() + Duration::from_secs(10);
        let mut allowance = Allowance::new(now);
        let later = now + Duration::from_secs(3600);
        allowance.take(UNITS_AT_ONCE as usize + 1000, later);
        assert_eq!(allowance.rest(later), Some(UNIT * 1000));
    }

    #[test]
    fn no_number_of_units_is_too_much() {
        let now = Instant::now();
        let mut allowance = Allowance::new(now);
        for _ in 0..3 {
            allowance.take(usize::MAX, now);
        }
        assert!(allowance.rest(now).is_some());
    }
}
