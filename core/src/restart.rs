//! When a worker that ended is replaced. Pure.

use std::time::Duration;

/// Which workers are replaced when they end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Respawn {
    /// `serve`: always; otherwise never, as in Node.
    #[default]
    Default,
    /// None.
    Never,
    /// Those that ended with a code other than 0, or by a signal.
    OnFailure,
    /// All, until the cluster is stopped.
    Always,
}

/// A worker that lived this long starts the count afresh.
pub const HEALTHY: Duration = Duration::from_secs(10);

/// The delays between one slot's restarts: they double with each worker that did not live long.
#[derive(Debug, Default)]
pub struct Backoff {
    short_lives: u32,
}

impl Backoff {
    /// The delay before the next start. `jitter` in 0..=1 spreads the slots, so that workers that fail together do not
    /// come back together; it lengthens the delay by up to a quarter, within `most`.
    pub fn next(&mut self, lived: Duration, least: Duration, most: Duration, jitter: f64) -> Duration {
        if lived >= HEALTHY {
            self.short_lives = 0;
        }
        let doubled = least.saturating_mul(2_u32.saturating_pow(self.short_lives));
        self.short_lives = self.short_lives.saturating_add(1);
        doubled.mul_f64_saturating(1.0 + 0.25 * jitter.clamp(0.0, 1.0)).min(most)
    }
}

trait MulSaturating {
    fn mul_f64_saturating(self, factor: f64) -> Duration;
}

impl MulSaturating for Duration {
    fn mul_f64_saturating(self, factor: f64) -> Duration {
        Duration::try_from_secs_f64(self.as_secs_f64() * factor).unwrap_or(Duration::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LEAST: Duration = Duration::from_millis(100);
    const MOST: Duration = Duration::from_secs(10);

    #[test]
    fn delays_double_up_to_the_limit_and_start_afresh_after_a_healthy_life() {
        let mut backoff = Backoff::default();
        let mut next = |lived| backoff.next(lived, LEAST, MOST, 0.0).as_millis();
        assert_eq!(
            (0..9).map(|_| next(Duration::ZERO)).collect::<Vec<_>>(),
            [100, 200, 400, 800, 1600, 3200, 6400, 10000, 10000]
        );
        assert_eq!(next(HEALTHY), 100);
        assert_eq!(next(Duration::from_secs(9)), 200);
    }

    proptest! {
        #[test]
        fn a_worker_that_ends_at_once_is_started_eight_times_in_ten_seconds_at_most(jitters in proptest::collection::vec(0.0_f64..=1.0, 20)) {
            let mut backoff = Backoff::default();
            let mut clock = Duration::ZERO;
            let mut starts = 1;
            for jitter in jitters {
                clock += backoff.next(Duration::ZERO, LEAST, MOST, jitter);
                starts += u32::from(clock <= Duration::from_secs(10));
            }
            prop_assert!((6..=8).contains(&starts), "{starts} starts");
        }

        #[test]
        fn a_delay_is_always_within_its_limits(lives in proptest::collection::vec(0_u64..20, 1..200), jitter in -1.0_f64..2.0) {
            let mut backoff = Backoff::default();
            for life in lives {
                let delay = backoff.next(Duration::from_secs(life), LEAST, MOST, jitter);
                prop_assert!(delay >= LEAST && delay <= MOST);
            }
        }
    }
}
