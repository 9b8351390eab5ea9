//! Who is to leave, by when, and what comes next for those who do not.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::entry::Escalation;
use super::{WorkerState, Workers};
use crate::primary::clock::{Clock, Timer};
use crate::restart::Respawn;

/// Between SIGTERM and SIGKILL.
const KILL_AFTER: Duration = Duration::from_secs(2);
/// A signal to everybody has reached everybody by then, and who handles it has asked for the stop.
const GROUP_WITHIN: Duration = Duration::from_millis(200);
/// Nobody is told later than this, or than after half of the deadline: whoever stands still does not hold the others up.
const LONGEST: Duration = Duration::from_secs(3);

impl Workers {
    /// A worker is to leave. A shorter deadline replaces a longer one. `None`: there is no such worker; else whether it is still to
    /// be told.
    pub(crate) fn ask_to_leave(
        &mut self,
        id: u32,
        deadline: Option<Duration>,
        now: Instant,
        clock: &mut Clock,
    ) -> Option<bool> {
        let untold = self.farewells.contains_key(&id);
        let entry = self.get_mut(id)?;
        if let Some(deadline) = deadline {
            let at = now + deadline;
            if entry.escalation.is_none_or(|(before, step)| step == Escalation::Terminate && at < before) {
                entry.escalation = Some((at, Escalation::Terminate));
                clock.add(at, Timer::Escalate(id));
            }
        }
        let untold = untold || !entry.is_leaving();
        if untold {
            entry.come_to(WorkerState::Disconnecting);
        }
        Some(untold)
    }

    /// A worker is told to leave when those who wait for it are served, or in half of its time.
    pub(crate) fn tell_later(&mut self, id: u32, deadline: Duration, now: Instant) {
        let at = now + (deadline / 2).min(LONGEST);
        let tell = self.farewells.entry(id).or_insert(at);
        *tell = at.min(*tell);
    }

    /// Workers that are to be told later, and until when.
    pub(crate) fn farewells(&self) -> &BTreeMap<u32, Instant> {
        &self.farewells
    }

    /// It is told now; false if it was not to be.
    pub(crate) fn take_farewell(&mut self, id: u32) -> bool {
        self.farewells.remove(&id).is_some()
    }

    /// Those of whose time half is over.
    pub(crate) fn out_of_time(&self, now: Instant) -> Vec<u32> {
        self.farewells.iter().filter(|(_, at)| **at <= now).map(|(id, _)| *id).collect()
    }

    /// Takes those who have nobody left to serve at the addresses that are `busy`, and those that are out of time.
    pub(crate) fn take_farewells(&mut self, busy: &[u32], over: &[u32]) -> Vec<u32> {
        let free = |id: &u32| {
            let mut addresses = self.get(*id).into_iter().flat_map(|entry| entry.listeners.values());
            !addresses.any(|address| busy.contains(address))
        };
        let told: Vec<u32> = self.farewells.keys().copied().filter(|id| over.contains(id) || free(id)).collect();
        self.farewells.retain(|id, _| !told.contains(id));
        told
    }

    /// A signal has asked a worker to leave. If it came to the whole group, this process will be told to stop as well, and in a
    /// stop the door is shut first: until that is known the worker goes on serving. Without any worker nobody would serve
    /// those who connect before the stop.
    pub(crate) fn leave_soon(&mut self, id: u32, clock: &mut Clock) {
        if !self.stopping && self.signalled.insert(id) {
            clock.add(Instant::now() + GROUP_WITHIN, Timer::Signalled(id));
        }
    }

    /// It is known by now: whether the worker leaves. A stop that goes on serving for a while tells everybody when that is over.
    pub(crate) fn leaves_by_signal(&mut self, id: u32) -> bool {
        self.signalled.remove(&id);
        !self.stopping && self.draining.is_none()
    }

    /// The program has everybody leave, one after the other.
    pub(crate) fn have_all_leave(&mut self) {
        self.all_leave = true;
    }

    /// Everybody leaves: nobody is there to hand connections back to.
    pub(crate) fn all_leave(&self) -> bool {
        self.stopping || self.all_leave
    }

    /// The next step for a worker that did not leave in time.
    pub(crate) fn escalate(&mut self, id: u32, now: Instant, clock: &mut Clock) {
        let Some(entry) = self.get_mut(id) else { return };
        let Some((_, step)) = entry.escalation.filter(|(at, _)| *at <= now) else { return };
        let (signal, next) = match step {
            Escalation::Terminate => (libc::SIGTERM, Some((now + KILL_AFTER, Escalation::Kill))),
            Escalation::Kill => (libc::SIGKILL, None),
        };
        entry.escalation = next;
        let _ = entry.process.signal(signal);
        if let Some((at, _)) = next {
            clock.add(at, Timer::Escalate(id));
        }
    }

    /// This worker leaves, or has left.
    fn leaves(&self, id: u32) -> bool {
        self.get(id).is_none_or(|entry| entry.is_leaving())
    }

    /// The others at an address are leaving, if there are any.
    pub(crate) fn is_last(&self, id: u32, mut there: impl Iterator<Item = u32>) -> bool {
        there.all(|worker| worker == id || self.leaves(worker))
    }

    /// With this worker the last one leaves an address for good.
    pub(crate) fn gives_up(&self, id: u32, there: impl Iterator<Item = u32>, respawn: Respawn) -> bool {
        let replaced = match respawn {
            // A program that takes the turns itself may fork another at any time; the address is kept for that.
            Respawn::Default => self.respawn_by_default || !self.ends_when_idle,
            Respawn::Never | Respawn::OnFailure => false,
            Respawn::Always => true,
        };
        // Of those whom the program starts, only it knows whether another comes; see `Primary::retire`.
        self.is_last(id, there)
            && !self.program_replaces
            && !replaced
            && !self.fleet.awaits_somebody()
            && self.is_last(id, self.by_id.keys().copied())
    }

    /// A stop was asked for. True if it goes on serving for the settings' delay; a second one with a shorter deadline ends that.
    pub(crate) fn drains(&mut self, deadline: Duration, delay: Duration, clock: &mut Clock) -> bool {
        if self.stopping || self.are_idle() || delay.is_zero() || deadline.is_zero() {
            return false;
        }
        if self.draining.is_none() {
            clock.add(Instant::now() + delay, Timer::Drained);
        }
        deadline >= *self.draining.get_or_insert(deadline)
    }

    /// The delay of a stop is over: the deadline that was asked for.
    pub(crate) fn drained(&self) -> Option<Duration> {
        self.draining
    }

    /// From now on nobody is replaced.
    pub(crate) fn begin_stop(&mut self) {
        self.draining = None;
        self.stopping = true;
        self.fleet.stop();
        self.generations.let_go();
        self.restarts.clear();
        self.due_forks.clear();
        self.due_enrolled.clear();
    }

    /// Workers may be started again.
    pub(crate) fn finish(&mut self) {
        self.stopping = false;
        self.draining = None;
        self.due_forks.clear();
        self.due_enrolled.clear();
        self.fleet.begin_again();
    }
}
