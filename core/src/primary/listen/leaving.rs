//! How an address loses its listeners, and for how long one that nobody serves is kept for a successor. Each time begins with the
//! leave of the last worker; what was set for an earlier one counts no more.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::Addresses;
use crate::handle::Handle;
use crate::primary::clock::{Clock, Timer};
use crate::primary::workers::Entry;
use crate::sys::poll::Poll;

/// When each address that nobody serves is looked at.
pub(super) type Kept = BTreeMap<u32, Instant>;

/// How a listener goes.
#[derive(Clone, Copy)]
pub(crate) struct Leave {
    /// Nobody is to come after the last, who leaves in an orderly way: the address is given up with it.
    pub(crate) for_good: bool,
    /// The address is given up even if some are still there who have been told to leave.
    pub(crate) with_the_told: bool,
    /// Else it is kept for so long.
    pub(crate) keep: Duration,
}

impl Addresses {
    /// Takes a worker's listener out of its address. Its unread connections stay in their queue until somebody has room.
    pub(crate) fn leave(&mut self, worker: &mut Entry, listener: u32, how: Leave, poll: &Poll, clock: &mut Clock) {
        self.listeners.forget(listener);
        worker.relayed.remove(&listener);
        let Some(id) = worker.listeners.remove(&listener) else { return };
        let Some(handle) = self.touch(id) else { return };
        worker.count(handle.leave(listener, poll));
        let unattended = handle.is_unattended();
        let given_up = how.with_the_told && handle.is_given_up() && !handle.is_closing();
        if given_up || unattended && (how.for_good || handle.is_closing()) {
            self.close(id, poll);
        } else if unattended {
            // No timer is made for one that is given up at once: a worker can open and close an address some thousand times in a
            // second.
            self.keep(id, how.keep, clock);
        }
    }

    fn keep(&mut self, id: u32, time: Duration, clock: &mut Clock) {
        let at = Instant::now() + time;
        if let Some(before) = self.kept.insert(id, at) {
            clock.cancel(before, Timer::Unattended(id));
        }
        clock.add(at, Timer::Unattended(id));
    }

    /// The time is over for which an address was kept. `again`: a successor may still come.
    pub(crate) fn end_keeping(&mut self, id: u32, again: Option<Duration>, poll: &Poll, clock: &mut Clock) {
        self.kept.remove(&id);
        match again {
            _ if !self.get(id).is_some_and(Handle::is_unattended) => {}
            Some(time) => self.keep(id, time, clock),
            None => self.close(id, poll),
        }
    }

    /// Closes an address from which everybody has been told to leave.
    pub(crate) fn close_if_given_up(&mut self, id: u32, poll: &Poll) {
        if self.get(id).is_some_and(|handle| handle.is_given_up() && !handle.is_closing()) {
            self.close(id, poll);
        }
    }
}
