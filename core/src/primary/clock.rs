//! When the next turn is due: at the earliest timer, or at once. Whoever gets a timer checks whether it still matters; only one that
//! would stay for long after that is cancelled.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::poller::Poller;
use crate::mechanism::LOOK;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// One look at every queue.
    Watch,
    /// Sockets that workers have are looked at.
    Audit,
    /// A handle paused because something was short.
    Pump(u32),
    /// Some slot's worker is to be replaced.
    Restart,
    /// Somebody may be ready to take another's place.
    Fleet,
    /// Somebody may have done enough.
    Recycle,
    /// A worker did not leave in time.
    Escalate(u32),
    /// A worker without a pidfd is to be asked whether it has ended.
    Ask(u32),
    /// A worker's socket was short of something.
    Flush(u32),
    /// Something could not be registered with the poll.
    Repair,
    /// A listen may be answered by now.
    Listen,
    /// Memory was short for what a worker has sent, or it has sent too much.
    Read(u32),
    /// There may be room for what a worker hands back.
    Returns(u32),
    /// A signal has asked a worker to leave.
    Signalled(u32),
    /// Addresses are being closed: whether workers can be told to leave.
    Closing,
    /// A stop has gone on serving for as long as it was to.
    Drained,
    /// A handle has had no worker for long.
    Unattended(u32),
}

pub(crate) struct Clock {
    poller: Arc<Poller>,
    timers: BTreeSet<(Instant, Timer)>,
    /// What the alarm is set to.
    alarm_at: Option<Instant>,
    /// A turn was begun; between turns, one that a panic ended.
    in_turn: bool,
    /// When the next replacement is tried.
    restart_at: Option<Instant>,
    fleet_at: Option<Instant>,
    recycle_at: Option<Instant>,
    /// When anything waits: the time between the last look of the watch and the next, and when that is.
    watching: Option<(Duration, Instant)>,
    audit_at: Option<Instant>,
}

impl Clock {
    pub(crate) fn new(poller: Arc<Poller>) -> Self {
        Self {
            poller,
            timers: BTreeSet::new(),
            alarm_at: None,
            in_turn: false,
            restart_at: None,
            fleet_at: None,
            recycle_at: None,
            watching: None,
            audit_at: None,
        }
    }

    /// False if the turn before did not come to its end.
    pub(crate) fn begin_turn(&mut self) -> bool {
        !std::mem::replace(&mut self.in_turn, true)
    }

    pub(crate) fn end_turn(&mut self) {
        self.set_alarm();
        self.in_turn = false;
    }

    /// There is another turn at once, whoever runs the primary and wherever it waits.
    pub(crate) fn wake(&self) {
        self.poller.wake.wake();
    }

    /// The alarm has rung.
    pub(crate) fn clear_alarm(&mut self) {
        self.poller.alarm.clear();
        self.alarm_at = None;
    }

    /// Sets a timer, also between two turns, when whoever runs the primary may be asleep until an earlier alarm, or for ever.
    pub(crate) fn add(&mut self, at: Instant, timer: Timer) {
        self.timers.insert((at, timer));
        if !self.in_turn {
            self.set_alarm();
        }
    }

    /// Takes a timer away that is not due yet.
    pub(crate) fn cancel(&mut self, at: Instant, timer: Timer) {
        self.timers.remove(&(at, timer));
    }

    /// The next timer whose time has come, and what that time was.
    pub(crate) fn due(&mut self, now: Instant) -> Option<(Instant, Timer)> {
        self.timers.first().filter(|(at, _)| *at <= now)?;
        let (at, timer) = self.timers.pop_first()?;
        match timer {
            Timer::Restart => self.restart_at = None,
            Timer::Fleet => self.fleet_at = None,
            Timer::Recycle => self.recycle_at = None,
            Timer::Audit => self.audit_at = None,
            _ => {}
        }
        Some((at, timer))
    }

    /// The next replacement is tried at this time, or earlier.
    pub(crate) fn restart_by(&mut self, at: Instant) {
        if self.restart_at.is_none_or(|set| at < set) {
            self.restart_at = Some(at);
            self.add(at, Timer::Restart);
        }
    }

    /// Who is to take another's place is looked at at this time, or earlier.
    pub(crate) fn fleet_by(&mut self, at: Instant) {
        if let Some(set) = self.fleet_at.filter(|set| *set > at) {
            self.cancel(set, Timer::Fleet);
            self.fleet_at = None;
        }
        if self.fleet_at.is_none() {
            self.fleet_at = Some(at);
            self.add(at, Timer::Fleet);
        }
    }

    /// What workers have done is looked at after this, or not at all.
    pub(crate) fn recycle_in(&mut self, look: Option<Duration>) {
        if let Some(set) = self.recycle_at.take() {
            self.cancel(set, Timer::Recycle);
        }
        if let Some(at) = look.map(|look| Instant::now() + look) {
            self.recycle_at = Some(at);
            self.add(at, Timer::Recycle);
        }
    }

    /// An audit is due at this time, or earlier.
    pub(crate) fn audit_by(&mut self, at: Instant) {
        if let Some(set) = self.audit_at.filter(|set| *set > at) {
            self.cancel(set, Timer::Audit);
            self.audit_at = None;
        }
        if self.audit_at.is_none() {
            self.audit_at = Some(at);
            self.add(at, Timer::Audit);
        }
    }

    /// An audit that would come before the next look of the watch is taken now, which is one wake-up less.
    pub(crate) fn take_audit(&mut self) -> bool {
        let next_look = self.watching.map(|(_, at)| at);
        let Some(at) = self.audit_at.filter(|at| next_look.is_some_and(|look| *at <= look)) else { return false };
        self.audit_at = None;
        self.cancel(at, Timer::Audit);
        true
    }

    /// The watch looks already.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn is_watching(&self) -> bool {
        self.watching.is_some()
    }

    /// It looks within this.
    pub(crate) fn watches_within(&self, interval: Duration, now: Instant) -> bool {
        self.watching.is_some_and(|(_, at)| at <= now + interval)
    }

    /// It looks after this, or earlier.
    pub(crate) fn watch_in(&mut self, interval: Duration, now: Instant) {
        if self.watches_within(interval, now) {
            return;
        }
        if let Some((_, later)) = self.watching {
            self.cancel(later, Timer::Watch);
        }
        self.watching = Some((interval, now + interval));
        self.add(now + interval, Timer::Watch);
    }

    /// The watch looks now; the time since its last look, had it been due when it was to be.
    pub(crate) fn take_watch(&mut self) -> Duration {
        self.watching.take().map_or(LOOK, |(interval, _)| interval)
    }

    /// Sets the one alarm to the earliest timer. An alarm that comes too early is harmless and saves a system call.
    fn set_alarm(&mut self) {
        let Some(earliest) = self.timers.first().map(|(at, _)| *at) else { return };
        if self.alarm_at.is_none_or(|set| earliest < set) && self.poller.alarm.set(Some(earliest)).is_ok() {
            self.alarm_at = Some(earliest);
        }
    }

    #[cfg(test)]
    pub(crate) fn timers_left(&self) -> usize {
        self.timers.len()
    }
}
