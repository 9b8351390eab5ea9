//! When a worker that ended is replaced. Pure.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

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

/// A worker that took no connection must have lived this long, or its life counts as short.
pub const YOUNG: Duration = Duration::from_secs(1);
/// One that never listened and lived this long is late again, but its slot's count starts afresh.
pub const HEALTHY: Duration = Duration::from_secs(10);
/// So many replacements may be started in a second, or as many as there are slots.
const STARTS_LEAST: usize = 8;
const SECOND: Duration = Duration::from_secs(1);

/// How a worker's life went, as far as it matters for its replacement.
#[derive(Debug, Clone, Copy, Default)]
pub struct Life {
    /// From its start to its end.
    pub lasted: Duration,
    /// It had a share of an address at some time.
    pub listened: bool,
    /// It took a connection.
    pub served: bool,
}

impl Life {
    /// As in a crash loop: it ended before it listened, or soon and without having taken a connection.
    pub fn is_short(&self) -> bool {
        !self.listened || (self.lasted < YOUNG && !self.served)
    }
}

/// The delays between one slot's restarts: they double with each short life. Others are replaced at once.
#[derive(Debug, Default)]
pub struct Backoff {
    short_lives: u32,
}

impl Backoff {
    /// The delay before the next start. `jitter` in 0..=1 spreads the slots, so that workers that fail together do not
    /// come back together; it lengthens the delay by up to a quarter, within `most`.
    pub fn next(&mut self, life: Life, least: Duration, most: Duration, jitter: f64) -> Duration {
        if !life.is_short() || life.lasted >= HEALTHY {
            self.short_lives = 0;
        }
        if !life.is_short() {
            return Duration::ZERO;
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

/// What bounds the starts of all slots together.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Slots that have a worker or are to get one.
    pub slots: usize,
    /// Some address has no worker: then a slot's turn comes at least once in this time.
    pub deserted: Option<Duration>,
}

impl Pace {
    /// What holds while nobody is there. Who wants the first delay to be longer than a second gets that.
    pub fn deserted(least: Duration) -> Option<Duration> {
        Some(least.max(SECOND))
    }
}

/// Which slots wait for a replacement, and when the next may be started.
#[derive(Debug, Default)]
pub struct Restarts {
    due: BTreeSet<(Instant, u32)>,
    /// The latest starts, as many as matter.
    started: VecDeque<Instant>,
    /// The latest start, or when there was first something to start.
    tried: Option<Instant>,
}

impl Restarts {
    /// A slot's replacement is due then.
    pub fn plan(&mut self, slot: u32, now: Instant, delay: Duration) {
        self.due.retain(|(_, other)| *other != slot);
        self.due.insert((now + delay, slot));
        self.tried.get_or_insert(now);
    }

    /// A slot's replacement is due one day.
    pub fn has(&self, slot: u32) -> bool {
        self.due.iter().any(|(_, other)| *other == slot)
    }

    /// A slot is not to be replaced, or not by us.
    pub fn cancel(&mut self, slot: u32) {
        self.due.retain(|(_, other)| *other != slot);
    }

    /// Nobody is to be replaced any more.
    pub fn clear(&mut self) {
        self.due.clear();
    }

    /// Nobody waits.
    pub fn is_empty(&self) -> bool {
        self.due.is_empty()
    }

    /// In how long a slot's replacement is due, if one is planned.
    pub fn delay(&self, slot: u32, now: Instant) -> Option<Duration> {
        let (at, _) = self.due.iter().find(|(_, other)| *other == slot)?;
        Some(at.saturating_duration_since(now))
    }

    /// When the next is to be started.
    pub fn next_at(&self, pace: Pace) -> Option<Instant> {
        let (mut at, _) = *self.due.first()?;
        if let (Some(interval), Some(tried)) = (pace.deserted, self.tried) {
            at = at.min(tried + interval);
        }
        let most = pace.slots.max(STARTS_LEAST);
        let earlier = self.started.len().checked_sub(most).and_then(|index| self.started.get(index));
        Some(earlier.map_or(at, |earlier| at.max(*earlier + SECOND)))
    }

    /// Takes the slot that is to be started now.
    pub fn take(&mut self, now: Instant, pace: Pace) -> Option<u32> {
        if self.next_at(pace)? > now {
            return None;
        }
        let (_, slot) = self.due.pop_first()?;
        self.tried = Some(now);
        self.started.push_back(now);
        while self.started.len() > pace.slots.max(STARTS_LEAST) {
            self.started.pop_front();
        }
        Some(slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LEAST: Duration = Duration::from_millis(100);
    const MOST: Duration = Duration::from_secs(10);
    const AT_ONCE: Life = Life { lasted: Duration::ZERO, listened: false, served: false };

    #[test]
    fn delays_double_up_to_the_limit_and_start_afresh_after_a_healthy_life() {
        let mut backoff = Backoff::default();
        let mut next = |life| backoff.next(life, LEAST, MOST, 0.0).as_millis();
        assert_eq!(
            (0..9).map(|_| next(AT_ONCE)).collect::<Vec<_>>(),
            [100, 200, 400, 800, 1600, 3200, 6400, 10000, 10000]
        );
        assert_eq!(next(Life { lasted: HEALTHY, ..AT_ONCE }), 100);
        assert_eq!(next(Life { lasted: Duration::from_secs(9), ..AT_ONCE }), 200);
        assert_eq!(next(Life { listened: true, ..AT_ONCE }), 400);
        assert_eq!(next(Life { listened: true, served: true, ..AT_ONCE }), 0);
        assert_eq!(next(AT_ONCE), 100);
    }

    #[test]
    fn slots_that_fail_together_do_not_come_back_together() {
        let delay = |jitter| Backoff::default().next(AT_ONCE, LEAST, MOST, jitter);
        let delays = [0.0, 0.5, 1.0].map(|jitter| delay(jitter).as_micros());
        assert_eq!(delays, [100_000, 112_500, 125_000]);
    }

    #[test]
    fn only_a_crash_loop_is_punished() {
        let life = |ms, listened, served| Life { lasted: Duration::from_millis(ms), listened, served };
        assert!(life(60_000, false, false).is_short());
        assert!(life(999, true, false).is_short());
        assert!(!life(1000, true, false).is_short());
        assert!(!life(0, true, true).is_short());
    }

    #[derive(Debug, Clone, Copy)]
    enum Fate {
        Crashes,
        Serves(u64),
    }

    fn fate() -> impl Strategy<Value = Fate> {
        prop_oneof![Just(Fate::Crashes), (0..3000_u64).prop_map(Fate::Serves)]
    }

    /// What becomes of slots whose workers have these fates in turn, for so many seconds; when there were starts.
    fn lives(slots: usize, fates: &[Fate], seconds: u64, jitter: f64) -> Vec<u64> {
        let begin = Instant::now();
        let at = |ms| begin + Duration::from_millis(ms);
        let mut restarts = Restarts::default();
        let mut backoffs: Vec<Backoff> = (0..slots).map(|_| Backoff::default()).collect();
        let mut ends: Vec<Option<(u64, Life)>> = vec![Some((0, AT_ONCE)); slots];
        let (mut fates, mut starts) = (fates.iter().cycle(), Vec::new());
        for now in 0..seconds * 1000 {
            for (slot, end) in ends.iter_mut().enumerate() {
                if let Some((_, life)) = end.take_if(|(when, _)| *when <= now) {
                    restarts.plan(slot as u32, at(now), backoffs[slot].next(life, LEAST, MOST, jitter));
                }
            }
            let serving = ends.iter().flatten().any(|(_, life)| life.served);
            let pace = Pace { slots, deserted: if serving { None } else { Pace::deserted(LEAST) } };
            while let Some(slot) = restarts.take(at(now), pace) {
                starts.push(now);
                ends[slot as usize] = Some(match fates.next().unwrap() {
                    Fate::Crashes => (now, AT_ONCE),
                    Fate::Serves(ms) => {
                        (now + ms, Life { lasted: Duration::from_millis(*ms), listened: true, served: true })
                    }
                });
            }
            assert!(restarts.next_at(pace).is_none_or(|next| next > at(now)));
        }
        starts
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_worker_that_ends_at_once_is_started_eight_times_in_ten_seconds_at_most(jitters in proptest::collection::vec(0.0_f64..=1.0, 20)) {
            let mut backoff = Backoff::default();
            let mut clock = Duration::ZERO;
            let mut starts = 1;
            for jitter in jitters {
                clock += backoff.next(AT_ONCE, LEAST, MOST, jitter);
                starts += u32::from(clock <= Duration::from_secs(10));
            }
            prop_assert!((6..=8).contains(&starts), "{starts} starts");
        }

        #[test]
        fn a_delay_is_always_within_its_limits(lives in proptest::collection::vec(0_u64..20, 1..200), jitter in -1.0_f64..2.0) {
            let mut backoff = Backoff::default();
            for life in lives {
                let delay = backoff.next(Life { lasted: Duration::from_secs(life), ..AT_ONCE }, LEAST, MOST, jitter);
                prop_assert!(delay >= LEAST && delay <= MOST);
            }
        }

        #[test]
        fn no_second_has_more_starts_than_it_may(slots in 1_usize..20, fates in proptest::collection::vec(fate(), 1..40), jitter in 0.0_f64..=1.0) {
            let starts = lives(slots, &fates, 6, jitter);
            let most = slots.max(STARTS_LEAST);
            prop_assert!(starts.windows(most + 1).all(|starts| starts[most] - starts[0] >= 1000), "{starts:?}");
        }

        #[test]
        fn while_nobody_is_there_a_slot_is_tried_once_a_second(slots in 1_usize..6, jitter in 0.0_f64..=1.0) {
            let starts = lives(slots, &[Fate::Crashes], 30, jitter);
            prop_assert!(starts.windows(2).all(|starts| starts[1] - starts[0] <= 1000), "{starts:?}");
            prop_assert!(starts.last().is_some_and(|last| *last >= 29_000 - 1));
        }

        #[test]
        fn a_worker_that_served_is_replaced_at_once(slots in 1_usize..5, lasts in 750_u64..3000) {
            // Eight starts in a second are enough for all of these.
            let mut expected: Vec<u64> = Vec::new();
            for slot in 0..slots {
                let _ = slot;
                expected.extend((1..).map(|turn| 100 + turn * lasts).take_while(|at| *at < 6000));
            }
            expected.extend(std::iter::repeat_n(100, slots));
            expected.sort_unstable();
            prop_assert_eq!(lives(slots, &[Fate::Serves(lasts)], 6, 0.0), expected);
        }
    }
}
