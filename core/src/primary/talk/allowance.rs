//! How much of the primary's time the frames of one worker may take: so much at once, and so much in the long run. Pure.
//!
//! A program in the kernel, which a new address with `kernel` takes, has an account of its own: as many at once as a worker may have
//! addresses, and in the long run no more than the other account would let it have.

use std::time::{Duration, Instant};

/// For a unit, which is a frame without much work behind it: 16,000 in a second.
const UNIT: Duration = Duration::from_nanos(62_500);
/// What a worker that was silent for a second may take at once.
const UNITS_AT_ONCE: u32 = 16_384;
/// Whoever has used all waits at least so long, or it would wake the primary for a frame each.
const REST: Duration = Duration::from_millis(1);

/// For a program in the kernel: 62 in a second.
const CHOICE: Duration = Duration::from_millis(16);
/// As many as a worker may have listeners.
const CHOICES_AT_ONCE: u32 = 256;

/// What a worker's frames may take.
pub(crate) struct Allowance {
    units: Account,
    choices: Account,
}

impl Allowance {
    /// A full one.
    pub(crate) fn new(now: Instant) -> Self {
        Self { units: Account::new(UNIT, UNITS_AT_ONCE, now), choices: Account::new(CHOICE, CHOICES_AT_ONCE, now) }
    }

    /// Takes so many units, also more than are left.
    pub(crate) fn take(&mut self, units: usize, now: Instant) {
        self.units.take(units, now);
    }

    /// A program was made for an address.
    pub(crate) fn take_choice(&mut self, now: Instant) {
        self.choices.take(1, now);
    }

    /// How long it has to wait when all is used.
    pub(crate) fn rest(&self, now: Instant) -> Option<Duration> {
        let owed = self.units.owed(now).max(self.choices.owed(now));
        (!owed.is_zero()).then(|| owed.max(REST))
    }
}

/// So much at once, and one more after each `each`.
struct Account {
    each: Duration,
    at_once: u32,
    /// The time up to which it is used.
    used_until: Instant,
}

impl Account {
    fn new(each: Duration, at_once: u32, now: Instant) -> Self {
        let mut full = Self { each, at_once, used_until: now };
        full.used_until = full.since(now);
        full
    }

    /// From when on one that is full now has grown. (A machine may have been started just before.)
    fn since(&self, now: Instant) -> Instant {
        now.checked_sub(self.each * self.at_once).unwrap_or(now)
    }

    fn take(&mut self, count: usize, now: Instant) {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.used_until = self.used_until.max(self.since(now)) + self.each.saturating_mul(count);
    }

    fn owed(&self, now: Instant) -> Duration {
        self.used_until.saturating_duration_since(now)
    }
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
    fn as_many_programs_at_once_as_addresses_and_then_as_many_as_before() {
        let mut now = Instant::now() + Duration::from_secs(10);
        let mut allowance = Allowance::new(now);
        // A listen each, beside it.
        let mut take = |now| {
            let rest = allowance.rest(now);
            if rest.is_none() {
                allowance.take(64, now);
                allowance.take_choice(now);
            }
            rest
        };
        assert_eq!((0..256).find_map(|_| take(now)), None);
        let (end, mut taken) = (now + Duration::from_secs(10), 0);
        while now < end {
            match take(now) {
                Some(rest) => now += rest,
                None => taken += 1,
            }
        }
        assert!((615..=635).contains(&taken), "{taken}");
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
