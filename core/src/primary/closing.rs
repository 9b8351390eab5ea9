//! The order of a stop, and of the leave of an address's last worker: first the door is shut, then everybody who is there is
//! served, and only then is anybody told to leave (see `handle::closing`). Whoever stands still does not hold the others up for
//! longer than 3 s, or half of the deadline.

use std::time::{Duration, Instant};

use super::Primary;
use super::clock::Timer;
use crate::restart::Respawn;
use crate::sys::door;

/// How soon one looks again, at first and after a while.
const LOOK: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(20));
/// Nobody is told later than this, or than after half of the deadline: whoever stands still does not hold the others up.
const LONGEST: Duration = Duration::from_secs(3);
const FIRST: Duration = Duration::from_millis(40);

impl Primary {
    /// Stops the cluster: it goes on serving for the settings' delay, then everybody leaves, nobody is replaced, every address is
    /// given up. A second call with a shorter deadline ends the delay, or shortens the deadline.
    pub fn stop(&mut self, deadline: Duration) {
        self.ask_to_stop(deadline);
    }

    pub(super) fn ask_to_stop(&mut self, deadline: Duration) {
        let delay = self.settings.drain_delay;
        let nobody = self.registry.is_empty() && !self.registry.is_replacing();
        let at_once = self.stopping || nobody || delay.is_zero() || deadline.is_zero();
        match self.draining {
            _ if at_once => self.begin_stop(deadline),
            Some(before) if deadline < before => self.begin_stop(deadline),
            Some(_) => {}
            None => {
                self.draining = Some(deadline);
                self.clock.add(Instant::now() + delay, Timer::Drained);
            }
        }
    }

    /// The delay of a stop is over.
    pub(super) fn drained(&mut self) {
        if let Some(deadline) = self.draining {
            self.begin_stop(deadline);
        }
    }

    fn begin_stop(&mut self, deadline: Duration) {
        self.draining = None;
        self.stopping = true;
        self.registry.cancel_replacements();
        self.registry.let_go(None);
        self.restarts.clear();
        self.due_forks.clear();
        let now = Instant::now();
        self.handles.shut_doors(&self.poller.poll, now);
        for id in self.registry.ids() {
            self.ask_to_leave(id, Some(deadline));
        }
        self.handles.close_unattended(&self.poller.poll);
        self.look_at_closing(now);
    }

    /// A worker that is to leave is told later, when those who wait for it are served. False: it can be told now.
    pub(super) fn tell_later(&mut self, id: u32, deadline: Option<Duration>, now: Instant) -> bool {
        let Some(entry) = self.registry.get(id) else { return false };
        let handles: Vec<u32> = entry.listeners.values().copied().collect();
        let mut later = false;
        for handle in handles {
            if !self.handles.get(handle).is_some_and(|handle| handle.is_closing()) && self.gives_up(id, handle) {
                self.handles.shut_door(handle, &self.poller.poll, now);
            }
            later |= self.handles.get(handle).is_some_and(|handle| handle.is_closing());
        }
        if later {
            self.leave_rotations(id);
            let at = now + (deadline.unwrap_or(self.settings.stop_deadline) / 2).min(LONGEST);
            let tell = self.farewells.entry(id).or_insert(at);
            *tell = at.min(*tell);
            if !self.stopping {
                self.look_at_closing(now);
            }
            later = self.farewells.contains_key(&id);
        }
        later
    }

    /// Where others serve, it gets nothing more from here on.
    fn leave_rotations(&mut self, id: u32) {
        let Some(entry) = self.registry.get(id) else { return };
        for listener in entry.listeners.keys() {
            if let Some(handle) = self.handles.of_listener(*listener).filter(|handle| !handle.is_closing()) {
                handle.retire_member(*listener);
                let handle = handle.id;
                self.handles.mark(handle);
            }
        }
    }

    /// The others at an address are leaving, if there are any.
    pub(super) fn is_last(&self, id: u32, handle: u32) -> bool {
        let leaves = |worker: u32| worker == id || self.registry.get(worker).is_none_or(|entry| entry.is_leaving());
        self.handles.get(handle).is_some_and(|handle| handle.workers().all(leaves))
    }

    /// With this worker the last one leaves an address for good.
    fn gives_up(&self, id: u32, handle: u32) -> bool {
        if !self.is_last(id, handle) {
            return false;
        }
        let leaves = |worker: u32| worker == id || self.registry.get(worker).is_none_or(|entry| entry.is_leaving());
        let replaced = match self.settings.respawn {
            // A program that takes the turns itself may fork another at any time; the address is kept for that.
            Respawn::Default => self.respawn_by_default || !self.ends_when_idle,
            Respawn::Never | Respawn::OnFailure => false,
            Respawn::Always => true,
        };
        // Of those whom the program starts, only it knows whether another comes; see `retire`.
        !self.program_replaces
            && !replaced
            && !self.registry.is_replacing()
            && self.registry.ids().into_iter().all(leaves)
    }

    /// A name without a file can be bound once only: what waits goes to those who are leaving, and it is closed at once.
    pub(super) fn make_way(&mut self, key: &str) {
        let nameless = |handle: &&mut crate::handle::Handle| handle.is_closing() && handle.is_abstract(key);
        let Some(handle) = self.handles.iter_mut().find(nameless) else { return };
        handle.hand_out_rest();
        let (id, workers) = (handle.id, handle.workers().collect::<Vec<u32>>());
        for worker in workers {
            if self.farewells.remove(&worker).is_some() {
                self.tell_to_leave(worker);
            }
        }
        self.handles.close(id, &self.poller.poll);
    }

    /// Tells those to leave who have nobody left to serve, or have had half of their time.
    pub(super) fn look_at_closing(&mut self, now: Instant) {
        let mut asked = None;
        let mut handshakes = || asked.get_or_insert_with(door::handshakes).clone();
        let mut busy = Vec::new();
        let mut longest = Duration::ZERO;
        for handle in self.handles.iter_mut().filter(|handle| handle.is_closing()) {
            longest = longest.max(handle.closing_for(now));
            if !handle.is_quiet(now, &mut handshakes) {
                busy.push(handle.id);
            }
        }
        busy.iter().for_each(|id| self.handles.mark(*id));
        let over: Vec<u32> = self.farewells.iter().filter(|(_, at)| **at <= now).map(|(id, _)| *id).collect();
        for id in &busy {
            if let Some(handle) = self.handles.get_mut(*id)
                && handle.workers().any(|worker| over.contains(&worker))
            {
                handle.hand_out_rest();
            }
        }
        let free = |id: &u32| {
            let listeners = self.registry.get(*id).map(|entry| entry.listeners.values());
            listeners.is_none_or(|mut handles| !handles.any(|handle| busy.contains(handle)))
        };
        let told: Vec<u32> = self.farewells.keys().copied().filter(|id| over.contains(id) || free(id)).collect();
        for id in told {
            self.farewells.remove(&id);
            self.tell_to_leave(id);
        }
        if !self.farewells.is_empty() {
            self.clock.add(now + if longest < FIRST { LOOK.0 } else { LOOK.1 }, Timer::Closing);
        }
    }
}
