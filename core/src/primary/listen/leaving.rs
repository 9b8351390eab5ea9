//! How an address loses its listeners, and for how long one that nobody serves is kept for a successor. Each time begins with the
//! leave of the last worker; what was set for an earlier one counts no more.

use std::time::Instant;

use super::addresses::{Addresses, Kept};
use crate::handle::Handle;
use crate::primary::clock::Timer;
use crate::primary::ground::Ground;
use crate::primary::workers::Entry;
use crate::sys::poll::Poll;

/// How a listener goes.
#[derive(Clone, Copy)]
pub(crate) struct Leave {
    /// Nobody is to come after the last, who leaves in an orderly way: the address is given up with it.
    pub(crate) for_good: bool,
    /// The address is given up even if some are still there who have been told to leave.
    pub(crate) with_the_told: bool,
    /// The worker was asked to leave, or wants to.
    pub(crate) in_order: bool,
}

impl Addresses {
    /// Takes a worker's listener out of its address. Its unread connections stay in their queue until somebody has room.
    pub(crate) fn leave(&mut self, worker: &mut Entry, listener: u32, how: Leave, ground: &mut Ground) {
        let Some(id) = worker.listeners.get(&listener).copied() else { return };
        let left = self.touch(id).map(|handle| {
            worker.count(handle.leave(listener, ground.poll));
            let given_up = how.with_the_told && handle.is_given_up() && !handle.is_closing();
            let unattended = handle.is_unattended();
            (given_up || unattended && (how.for_good || handle.is_closing()), unattended)
        });
        self.listeners.forget(listener);
        worker.listeners.remove(&listener);
        worker.relayed.remove(&listener);
        match left {
            Some((true, _)) => self.close(id, ground.poll),
            // No timer is made for one that is given up at once: a worker can open and close an address some thousand times in a
            // second.
            Some((false, true)) => self.keep(id, !how.in_order, ground),
            _ => {}
        }
    }

    fn keep(&mut self, id: u32, crashed: bool, ground: &mut Ground) {
        let at = Instant::now() + ground.settings.keep_unattended;
        if let Some(before) = self.kept.insert(id, Kept { at, crashed }) {
            ground.clock.cancel(before.at, Timer::Unattended(id));
        }
        ground.clock.add(at, Timer::Unattended(id));
    }

    /// The time is over for which an address was kept. `again`: a successor may still come.
    pub(crate) fn end_keeping(&mut self, id: u32, again: bool, ground: &mut Ground) {
        let crashed = self.awaits_successor(id);
        self.kept.remove(&id);
        match self.get(id).is_some_and(Handle::is_unattended) {
            true if again => self.keep(id, crashed, ground),
            true => self.close(id, ground.poll),
            false => {}
        }
    }

    /// Nobody serves there, and a successor of whoever crashed there is waited for.
    pub(super) fn awaits_successor(&self, id: u32) -> bool {
        self.get(id).is_some_and(Handle::is_unattended) && self.kept.get(&id).is_some_and(|kept| kept.crashed)
    }

    /// Closes an address from which everybody has been told to leave.
    pub(crate) fn close_if_given_up(&mut self, id: u32, poll: &Poll) {
        if self.get(id).is_some_and(|handle| handle.is_given_up() && !handle.is_closing()) {
            self.close(id, poll);
        }
    }
}
