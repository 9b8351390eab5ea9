//! The order of a stop, of the leave of an address's last worker, and of a death: first the door is shut, then everybody who is there
//! is served, and only then is anybody told to leave (see `handle::closing`). Whoever stands still does not hold the others up for
//! longer than 3 s, or half of the deadline.

use std::time::{Duration, Instant};

use super::Primary;
use super::clock::Timer;
use super::workers::Entry;
use crate::handle::Handle;
use crate::sys::child::ExitStatus;

/// How soon one looks again, at first and after a while.
const LOOK: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(20));
const FIRST: Duration = Duration::from_millis(40);

impl Primary {
    pub(super) fn ask_to_stop(&mut self, deadline: Duration) {
        if !self.workers.drains(deadline, self.settings.drain_delay, &mut self.clock) {
            self.begin_stop(deadline);
        }
    }

    pub(super) fn begin_stop(&mut self, deadline: Duration) {
        self.workers.begin_stop();
        self.end_returns();
        let now = Instant::now();
        self.addresses.shut_doors(&self.poller.poll, now);
        for id in self.workers.ids() {
            self.ask_to_leave(id, Some(deadline));
        }
        self.addresses.close_unattended(None, &self.poller.poll);
        self.look_at_closing(now);
    }

    /// Asks a worker to leave: at once, or when those are served that only it can serve. A shorter deadline replaces a longer one.
    pub(super) fn ask_to_leave(&mut self, id: u32, deadline: Option<Duration>) {
        let now = Instant::now();
        let Some(untold) = self.workers.ask_to_leave(id, deadline, now, &mut self.clock) else { return };
        if untold && !self.tell_later(id, deadline, now) {
            self.tell_to_leave(id);
        }
        self.clock.wake();
    }

    /// A worker that is to leave is told later, when those who wait for it are served. False: it can be told now.
    fn tell_later(&mut self, id: u32, deadline: Option<Duration>, now: Instant) -> bool {
        let Self { workers, addresses, poller, settings, .. } = self;
        let Some(entry) = workers.get(id) else { return false };
        let gives_up = |handle: &Handle| workers.gives_up(id, handle.workers(), settings.respawn);
        if !addresses.close_behind(entry, gives_up, &poller.poll, now) {
            return false;
        }
        workers.tell_later(id, deadline.unwrap_or(settings.stop_deadline), now);
        if !workers.is_stopping() {
            self.look_at_closing(now);
        }
        self.workers.farewells().contains_key(&id)
    }

    /// Takes a worker's turns away at all addresses first, then tells it.
    fn tell_to_leave(&mut self, id: u32) {
        if let Some(mut session) = self.session(id) {
            // Who sees that no more connections come finds where to hand back those that it has.
            session.offer_returns();
            session.addresses.stop(session.worker);
            session.worker.link.ask_to_leave(&mut session.ground);
        }
        self.clock.wake();
    }

    /// Closes an address at once that is in the way of another; those who are leaving get what waits.
    pub(super) fn make_way(&mut self, address: u32) {
        for worker in self.addresses.hand_out_rest(address) {
            if self.workers.take_farewell(worker) {
                self.tell_to_leave(worker);
            }
        }
        self.addresses.close(address, &self.poller.poll);
    }

    /// Tells those to leave who have nobody left to serve, or have had half of their time.
    pub(super) fn look_at_closing(&mut self, now: Instant) {
        let (busy, longest) = self.addresses.look_at_closing(now);
        let over = self.workers.out_of_time(now);
        for address in &busy {
            let there = |handle: &Handle| handle.workers().any(|worker| over.contains(&worker));
            if self.addresses.get(*address).is_some_and(there) {
                self.addresses.hand_out_rest(*address);
            }
        }
        for id in self.workers.take_farewells(&busy, &over) {
            self.tell_to_leave(id);
        }
        if !self.workers.farewells().is_empty() {
            self.clock.add(now + if longest < FIRST { LOOK.0 } else { LOOK.1 }, Timer::Closing);
        }
    }

    /// A worker's process has ended, or looks so.
    pub(super) fn process_ended(&mut self, id: u32) {
        let Some(status) = self.workers.reap(id) else { return };
        // What it said last is still in the channel.
        self.hear_out(id);
        if self.leave_books(id, status).is_some() && self.workers.is_stopping() {
            self.addresses.close_unattended(None, &self.poller.poll);
        }
    }

    /// Writes the end of a worker's process into the books.
    pub(super) fn leave_books(&mut self, id: u32, status: ExitStatus) -> Option<Entry> {
        let mut session = self.session(id)?;
        if let Err(offence) = session.end_returns() {
            session.ground.news.warn(Some(session.worker.reference()), format!("it had sent {}", offence.0));
        }
        session.leave_all();
        let (workers, addresses, _, mut ground) = self.parts();
        // Its last act may have been to remove the file of its socket.
        addresses.find_all_again(&mut ground);
        workers.remove(id, status, &mut ground)
    }

    /// Makes the replacements whose turn has come.
    pub(super) fn run_restarts(&mut self, now: Instant) {
        if self.workers.are_some_due() {
            let deserted = self.addresses.has_deserted();
            let (workers, _, _, mut ground) = self.parts();
            workers.run_restarts(now, deserted, &mut ground);
        }
    }
}
