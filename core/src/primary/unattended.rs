//! Addresses that nobody serves: for how long they are kept for a successor. Each time begins with the leave of the last worker; what
//! was set for an earlier one counts no more.

use std::collections::BTreeMap;
use std::time::Instant;

use super::Primary;
use super::clock::Timer;

/// When each address is looked at.
#[derive(Default)]
pub(super) struct Kept(BTreeMap<u32, Instant>);

impl Primary {
    /// An address that nobody serves any more is given up if that is still so after a while. A timer is not made for one that is
    /// given up at once: a worker can open and close an address some thousand times in a second.
    pub(super) fn keep_for_a_successor(&mut self, handle: u32) {
        if self.handles.get(handle).is_some_and(|handle| handle.is_unattended() && handle.is_closing()) {
            self.handles.close(handle, &self.poller.poll);
        } else if self.handles.get(handle).is_some_and(|handle| handle.is_unattended()) {
            self.look_at_unattended_later(handle);
        }
    }

    fn look_at_unattended_later(&mut self, handle: u32) {
        let at = Instant::now() + self.settings.keep_unattended;
        if let Some(before) = self.kept.0.insert(handle, at) {
            self.clock.cancel(before, Timer::Unattended(handle));
        }
        self.clock.add(at, Timer::Unattended(handle));
    }

    /// The time is over.
    pub(super) fn leave_unattended(&mut self, handle: u32) {
        self.kept.0.remove(&handle);
        let unattended = self.handles.get(handle).is_some_and(|handle| handle.is_unattended());
        if !unattended {
            return;
        }
        let nobody_comes = self.registry.is_empty() && !self.registry.is_replacing();
        if nobody_comes || self.program_replaces {
            self.handles.close(handle, &self.poller.poll);
        } else {
            self.look_at_unattended_later(handle);
        }
    }
}
