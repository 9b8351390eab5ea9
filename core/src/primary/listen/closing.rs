//! Addresses that are being given up: the door is shut, and whoever is there is served (see `handle::closing`).

use std::time::{Duration, Instant};

use super::addresses::Addresses;
use crate::handle::Handle;
use crate::primary::workers::Entry;
use crate::sys::door;
use crate::sys::poll::Poll;

impl Addresses {
    /// Nobody new comes to an address; whoever listens there from now on opens it anew.
    pub(crate) fn shut_door(&mut self, id: u32, poll: &Poll, now: Instant) {
        if let Some(handle) = self.by_id.get_mut(&id) {
            handle.shut_door(poll, now);
            if self.by_key.get(&handle.key) == Some(&id) {
                self.by_key.remove(&handle.key);
            }
        }
    }

    /// The same for all.
    pub(crate) fn shut_doors(&mut self, poll: &Poll, now: Instant) {
        for id in self.by_id.keys().copied().collect::<Vec<u32>>() {
            self.shut_door(id, poll, now);
        }
    }

    /// Shuts the doors of a worker's addresses that are given up with it. True if some are closing; where others serve, it gets nothing
    /// more from here on.
    pub(crate) fn close_behind(
        &mut self,
        worker: &Entry,
        gives_up: impl Fn(&Handle) -> bool,
        poll: &Poll,
        now: Instant,
    ) -> bool {
        let mut closing = false;
        for id in worker.addresses() {
            let Some(handle) = self.by_id.get(&id) else { continue };
            let shut = !handle.is_closing() && gives_up(handle);
            closing |= shut || handle.is_closing();
            if shut {
                self.shut_door(id, poll, now);
            }
        }
        if closing {
            for (listener, id) in &worker.listeners {
                if self.get(*id).is_some_and(|handle| !handle.is_closing())
                    && let Some(handle) = self.touch(*id)
                {
                    handle.retire_member(*listener);
                }
            }
        }
        closing
    }

    /// Takes a worker's turns away at all addresses, and says so in its mailboxes.
    pub(crate) fn stop(&mut self, worker: &Entry) {
        for (listener, id) in &worker.listeners {
            if let Some(handle) = self.touch(*id) {
                // It stays out of turn even if the stop could not be sent; the deadline ends it then.
                let _ = handle.stop_member(*listener);
            }
        }
    }

    /// A closing address that keeps another from being opened: a name without a file can be bound once only.
    pub(crate) fn in_the_way(&self, key: &str) -> Option<u32> {
        self.by_id.values().find(|handle| handle.is_closing() && handle.is_abstract(key)).map(|handle| handle.id)
    }

    /// What waits at a closing address goes to those who are leaving; who they are.
    pub(crate) fn hand_out_rest(&mut self, id: u32) -> Vec<u32> {
        let Some(handle) = self.by_id.get_mut(&id) else { return Vec::new() };
        handle.hand_out_rest();
        handle.workers().collect()
    }

    /// Those where somebody is still to be served, and for how long the longest has been closing.
    pub(crate) fn look_at_closing(&mut self, now: Instant) -> (Vec<u32>, Duration) {
        let mut asked = None;
        let mut handshakes = || asked.get_or_insert_with(door::handshakes).clone();
        let mut busy = Vec::new();
        let mut longest = Duration::ZERO;
        for handle in self.by_id.values_mut().filter(|handle| handle.is_closing()) {
            longest = longest.max(handle.closing_for(now));
            if !handle.is_quiet(now, &mut handshakes) {
                busy.push(handle.id);
            }
        }
        busy.iter().for_each(|id| self.mark(*id));
        (busy, longest)
    }
}
