//! Whoever was woken for a connection may have died, been told to leave or begun something else before it took it. The kernel wakes
//! nobody else for it. So for a while after somebody has left the line, and in each audit, the primary looks whether anybody waits, and
//! wakes all who could accept him. Nobody can take a worker out of the line that is woken again and again and accepts nothing. While
//! that happens the primary looks often. Pure.

use std::time::{Duration, Instant};

/// How soon it looks again, at first and at last.
const LOOK: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));
/// By then whoever was woken has taken something.
const SOON: Duration = Duration::from_millis(2);
/// After so many looks in a row at which connections were being taken everybody is awake.
const ENOUGH: u32 = 2;
/// So many looks in a row may find that something was taken. It is the workers that say so.
const DOUBTS: u32 = 3;
/// So many looks follow after the first wake-up that was lost, and after each one more.
const AFTER_LOST: (u32, u32) = (10, 50);

#[derive(Clone, Copy)]
enum Why {
    /// Somebody has left the line.
    Left { pause: Duration, moved: u32 },
    /// Somebody waited. All are woken, unless connections have been taken since.
    Suspected { doubts: u32 },
    /// All were woken, for one whom nobody had taken.
    Roused,
    /// Wake-ups were lost of late.
    Watching,
}

pub(super) struct Rousing {
    /// When to look; `None`: there is no reason to.
    at: Option<Instant>,
    told: bool,
    why: Why,
    /// What had been taken by the last look.
    taken: u64,
    /// Wake-ups that were lost since somebody could be woken.
    lost: u32,
    watch: u32,
}

impl Default for Rousing {
    fn default() -> Self {
        Self { at: None, told: false, why: Why::Watching, taken: 0, lost: 0, watch: 0 }
    }
}

impl Rousing {
    /// Somebody has left the line.
    pub(super) fn begin(&mut self, now: Instant) {
        self.look_at(now, Why::Left { pause: LOOK.0, moved: 0 });
    }

    /// Somebody waits; `taken`: connections taken by now.
    pub(super) fn suspect(&mut self, taken: u64, now: Instant) {
        if self.at.is_none() {
            self.taken = taken;
            self.look_at(now + LOOK.0, Why::Suspected { doubts: DOUBTS });
        }
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.at.is_some_and(|at| at <= now)
    }

    /// One look: whether somebody waits, and what was taken by now. True: all are to be woken.
    pub(super) fn look(&mut self, somebody_waits: bool, taken: u64, now: Instant) -> bool {
        let has_moved = taken != std::mem::replace(&mut self.taken, taken);
        match self.why {
            Why::Roused => {
                let was_lost = has_moved || !somebody_waits;
                // Whoever is busy says nothing about it.
                self.lost = self.lost.saturating_add(u32::from(was_lost));
                self.watch = match self.lost {
                    0 => self.watch,
                    1 => self.watch.max(AFTER_LOST.0),
                    _ => AFTER_LOST.1,
                };
                match was_lost {
                    true => self.rest(now),
                    // They are busy.
                    false => self.look_at(now + LOOK.0, Why::Left { pause: LOOK.0 * 2, moved: 0 }),
                }
                false
            }
            _ if !somebody_waits => {
                self.rest(now);
                false
            }
            Why::Watching => {
                self.look_at(now + SOON, Why::Suspected { doubts: DOUBTS });
                false
            }
            Why::Suspected { doubts } if has_moved && doubts > 0 => {
                self.look_at(now + SOON, Why::Suspected { doubts: doubts - 1 });
                false
            }
            Why::Suspected { .. } => {
                match has_moved {
                    true => self.rest(now),
                    false => self.look_at(now + SOON, Why::Roused),
                }
                true
            }
            Why::Left { pause, moved } => {
                let moved = if has_moved { moved + 1 } else { 0 };
                let next = if has_moved { LOOK.0 } else { (pause * 2).min(LOOK.1) };
                match moved > ENOUGH {
                    true => self.rest(now),
                    false => self.look_at(now + pause, Why::Left { pause: next, moved }),
                }
                true
            }
        }
    }

    /// Nobody waits, or everybody is awake.
    fn rest(&mut self, now: Instant) {
        if self.watch > 0 {
            self.watch -= 1;
            self.look_at(now + LOOK.0, Why::Watching);
        } else {
            self.at = None;
        }
    }

    /// Nobody could be woken.
    pub(super) fn end(&mut self) {
        (self.at, self.watch, self.lost) = (None, 0, 0);
    }

    fn look_at(&mut self, at: Instant, why: Why) {
        (self.at, self.told, self.why) = (Some(at), false, why);
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

    /// Looks whenever that is due, for so long; `see`: whether somebody waits by then, and what was taken. How often, and how often all
    /// were woken.
    fn looks(
        rousing: &mut Rousing,
        from: Instant,
        lasting: Duration,
        mut see: impl FnMut(Instant) -> (bool, u64),
    ) -> (u32, u32) {
        let (mut count, mut roused) = (0, 0);
        while let Some(at) = rousing.at.filter(|at| *at < from + lasting) {
            let (waits, taken) = see(at);
            roused += u32::from(rousing.look(waits, taken, at));
            count += 1;
        }
        (count, roused)
    }

    #[test]
    fn it_looks_less_and_less_while_nothing_moves() {
        let mut now = Instant::now();
        let mut rousing = Rousing::default();
        assert!(!rousing.is_due(now));
        rousing.begin(now);
        let mut pauses = Vec::new();
        for _ in 0..9 {
            assert!(rousing.is_due(now));
            assert!(rousing.look(true, 0, now));
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
    fn it_ends_when_connections_are_taken_all_the_time() {
        let now = Instant::now();
        let mut rousing = Rousing::default();
        rousing.begin(now);
        let mut taken = 0;
        let see = |_| {
            taken += 1;
            (true, taken)
        };
        assert_eq!(looks(&mut rousing, now, Duration::from_secs(9), see), (3, 3));
    }

    #[test]
    fn a_suspicion_ends_when_nobody_waits_and_needs_more_looks_when_something_was_taken() {
        let now = Instant::now();
        let mut rousing = Rousing::default();
        rousing.suspect(7, now);
        assert!(!rousing.is_due(now) && rousing.is_due(now + LOOK.0));
        assert_eq!(looks(&mut rousing, now, Duration::from_secs(9), |_| (false, 7)), (1, 0));
        // A worker may say at any time that something was taken.
        rousing.suspect(7, now);
        let mut taken = 7;
        let see = |_| {
            taken += 1;
            (true, taken)
        };
        assert_eq!(looks(&mut rousing, now, Duration::from_secs(9), see), (1 + DOUBTS, 1));
        rousing.begin(now);
        rousing.suspect(8, now);
        assert!(rousing.is_due(now), "somebody has left");
    }

    /// One client after the other, each of whom waits until all are woken. `helps`: somebody sleeps, and takes him then. Looks in these
    /// seconds, and the longest wait in the last of them.
    fn clients(rousing: &mut Rousing, seconds: u32, helps: bool) -> (u32, Duration) {
        const LATER: Duration = Duration::from_millis(5);
        let (begin, second) = (Instant::now(), Duration::from_secs(1));
        let (mut taken, mut came, mut count, mut longest) = (0, begin, 0, Duration::ZERO);
        for tick in 0..seconds * 1000 {
            let now = begin + Duration::from_millis(tick.into());
            if tick % 1000 == 999 && came <= now {
                rousing.suspect(taken, now);
            }
            if !rousing.is_due(now) {
                continue;
            }
            count += 1;
            if rousing.look(came <= now, taken, now) && helps {
                taken += 1;
                longest = if now >= begin + second * (seconds - 1) { longest.max(now - came) } else { longest };
                came = now + LATER;
            }
        }
        (count, longest)
    }

    #[test]
    fn whoever_is_woken_and_never_accepts_delays_others_by_little() {
        let mut rousing = Rousing::default();
        let (count, longest) = clients(&mut rousing, 4, true);
        assert!(longest <= LOOK.0 + SOON * 2 && count < 4 * 150, "{longest:?}, {count} looks");
        let end = Instant::now() + Duration::from_secs(9);
        assert!(looks(&mut rousing, end, Duration::from_secs(9), |_| (false, 0)).0 <= AFTER_LOST.1 + 1);
        assert!(!rousing.is_due(end + Duration::from_secs(9)), "nothing more is lost");
        // Where all are busy nobody is woken by that, and it looks less and less.
        assert!(clients(&mut rousing, 4, false).0 < 20);
    }
}
