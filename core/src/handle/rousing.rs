//! Whoever was woken for a connection may have died, been told to leave or begun something else before it took it. The kernel wakes
//! nobody else for it. So for a while after somebody has left the line, and in each audit, the primary looks whether anybody waits, and
//! wakes all who could accept him.

use std::time::{Duration, Instant};

/// How soon it looks again, at first and at last.
const LOOK: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));
/// After so many looks in a row at which connections were being taken everybody is awake.
const ENOUGH: u32 = 2;

#[derive(Default)]
pub(super) struct Rousing {
    /// When to look; `None`: there is no reason to.
    at: Option<Instant>,
    told: bool,
    pause: Duration,
    /// What had been taken by the last look.
    taken: u64,
    /// Looks in a row that found more taken.
    moved: u32,
    /// Nobody has left, but somebody waited. Nobody is woken if connections have been taken since.
    suspected: bool,
}

impl Rousing {
    /// Somebody has left the line.
    pub(super) fn begin(&mut self, now: Instant) {
        *self = Self { at: Some(now), told: false, pause: LOOK.0, taken: self.taken, moved: 0, suspected: false };
    }

    /// Somebody waits; `taken`: connections taken by now.
    pub(super) fn suspect(&mut self, taken: u64, now: Instant) {
        if self.at.is_none() {
            *self = Self { at: Some(now + LOOK.0), told: false, pause: LOOK.0, taken, moved: 0, suspected: true };
        }
    }

    /// There is no reason to look after all.
    pub(super) fn is_unfounded(&mut self, taken: u64) -> bool {
        std::mem::take(&mut self.suspected) && taken != self.taken
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.at.is_some_and(|at| at <= now)
    }

    /// A look found somebody waiting; `taken`: connections taken by then.
    pub(super) fn some_wait(&mut self, taken: u64, now: Instant) {
        let has_moved = taken != std::mem::replace(&mut self.taken, taken);
        self.moved = if has_moved { self.moved + 1 } else { 0 };
        if self.moved > ENOUGH {
            self.end();
            return;
        }
        self.at = Some(now + self.pause);
        self.told = false;
        self.pause = if has_moved { LOOK.0 } else { (self.pause * 2).min(LOOK.1) };
    }

    /// Nobody waits, or nobody could be woken.
    pub(super) fn end(&mut self) {
        self.at = None;
    }

    /// When the next look is due, if that has not been said yet.
    pub(super) fn take_alarm(&mut self) -> Option<Instant> {
        let at = self.at?;
        (!std::mem::replace(&mut self.told, true)).then_some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_looks_less_and_less_while_nothing_moves() {
        let mut now = Instant::now();
        let mut rousing = Rousing::default();
        assert!(!rousing.is_due(now));
        rousing.begin(now);
        let mut pauses = Vec::new();
        for _ in 0..9 {
            assert!(rousing.is_due(now));
            rousing.some_wait(0, now);
            let at = rousing.take_alarm().unwrap();
            assert_eq!(rousing.take_alarm(), None, "it has been said");
            pauses.push((at - now).as_millis());
            now = at;
        }
        assert_eq!(pauses, [20, 40, 80, 160, 320, 640, 1000, 1000, 1000]);
        rousing.end();
        assert_eq!((rousing.is_due(now), rousing.take_alarm()), (false, None));
    }

    #[test]
    fn a_suspicion_ends_when_something_was_taken() {
        let now = Instant::now();
        let mut rousing = Rousing::default();
        rousing.suspect(7, now);
        assert!(!rousing.is_due(now) && rousing.is_due(now + LOOK.0));
        assert!(!rousing.is_unfounded(7));
        rousing.end();
        rousing.suspect(7, now);
        assert!(rousing.is_unfounded(8));
        rousing.begin(now);
        rousing.suspect(8, now);
        assert!(rousing.is_due(now) && !rousing.is_unfounded(9), "somebody has left");
    }

    #[test]
    fn it_ends_when_connections_are_taken_all_the_time() {
        let now = Instant::now();
        let mut rousing = Rousing::default();
        rousing.begin(now);
        for taken in 1..=3 {
            assert!(rousing.is_due(now + LOOK.0 * 3));
            rousing.some_wait(taken, now);
        }
        assert!(!rousing.is_due(now + LOOK.1));
    }
}
