//! One member takes the place of another of its slot, or of nobody.

use std::time::Instant;

use super::Handle;
use crate::sys::poll::Poll;

impl Handle {
    /// What it is called for people.
    pub(crate) fn called(&self) -> String {
        self.name.to_inet().map_or_else(|| self.address.clone(), |inet| inet.to_string())
    }

    /// A member that was proving has the turns of its slot from here on. Whoever had them gets nothing more, and finishes what it has.
    pub(crate) fn take_place(&mut self, listener: u32, poll: &Poll) {
        let Some(index) = self.members.index_of(listener).filter(|index| self.members[*index].is_proving()) else {
            return;
        };
        let slot = self.members[index].slot;
        self.lose_places(slot);
        let assigned = self.sockets.route().assigned(slot);
        self.sockets.seat_member(&mut self.members[index], poll);
        self.members[index].take_place(assigned);
        self.attention.wake_anew();
        self.give_turns();
    }

    /// Another is about to have the turns of a slot.
    pub(super) fn lose_places(&mut self, slot: u32) {
        let assigned = self.sockets.route().assigned(slot);
        let mut line_changes = false;
        for member in self.members.iter_mut().filter(|member| member.slot == slot && !member.is_proving()) {
            line_changes |= member.is_in_line();
            member.lose_place(assigned);
        }
        if line_changes {
            self.rousing.begin(Instant::now());
        }
    }

    /// Nobody takes connections here any more, and all who did were made before this worker, as was who left last.
    pub(crate) fn is_given_up_before(&self, worker: u32) -> bool {
        let mut known = self.workers().chain(self.members.last_left()).peekable();
        self.is_given_up() && known.peek().is_some() && known.all(|other| other < worker)
    }
}
