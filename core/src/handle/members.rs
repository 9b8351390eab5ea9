//! The members of an address, in the order of their slots.

use std::ops::{Deref, DerefMut};

use super::member::Member;
use crate::mailbox::Connection;
use crate::mechanism::{Accepted, Look, OwnSocket, Turns, Watched};
use crate::sys::poll::Poll;

#[derive(Default)]
pub(super) struct Members {
    by_slot: Vec<Member>,
    /// Their slots, which the policies read.
    slots: Vec<u32>,
    /// Whose member was the last to leave.
    last_left: Option<u32>,
}

impl Deref for Members {
    type Target = [Member];

    fn deref(&self) -> &[Member] {
        &self.by_slot
    }
}

impl DerefMut for Members {
    fn deref_mut(&mut self) -> &mut [Member] {
        &mut self.by_slot
    }
}

impl Members {
    pub(super) fn add(&mut self, member: Member) {
        let index = self.slots.partition_point(|slot| *slot <= member.slot);
        self.slots.insert(index, member.slot);
        self.by_slot.insert(index, member);
    }

    pub(super) fn remove(&mut self, listener: u32) -> Option<Member> {
        let index = self.index_of(listener)?;
        self.slots.remove(index);
        let member = self.by_slot.remove(index);
        self.last_left = Some(member.worker);
        Some(member)
    }

    pub(super) fn slots(&self) -> &[u32] {
        &self.slots
    }

    /// The members, and their slots.
    pub(super) fn with_slots(&mut self) -> (&mut [Member], &[u32]) {
        (&mut self.by_slot, &self.slots)
    }

    pub(super) fn index_of(&self, listener: u32) -> Option<usize> {
        self.iter().position(|member| member.listener == listener)
    }

    pub(super) fn by_listener(&mut self, listener: u32) -> Option<&mut Member> {
        self.iter_mut().find(|member| member.listener == listener)
    }

    pub(super) fn of_slot(&mut self, slot: u32) -> Option<&mut Member> {
        let index = self.slots.binary_search(&slot).ok()?;
        self.get_mut(index)
    }

    pub(super) fn of_worker(&self, worker: u32) -> impl Iterator<Item = &Member> {
        self.iter().filter(move |member| member.worker == worker)
    }

    pub(super) fn last_left(&self) -> Option<u32> {
        self.last_left
    }

    pub(super) fn own_sockets(&self) -> impl Iterator<Item = &OwnSocket> {
        self.iter().filter_map(Member::own_socket)
    }

    pub(super) fn own_sockets_mut(&mut self) -> impl Iterator<Item = &mut OwnSocket> {
        self.iter_mut().filter_map(Member::own_socket_mut)
    }

    /// The next connection that a member was given and its worker has not taken, where others are to serve it.
    pub(super) fn take_back(&mut self) -> Accepted {
        Accepted::first(self.iter_mut().filter(|member| member.is_source()).map(Member::take_back))
    }

    /// Sends what was staged, worker by worker, so that each is woken once. What cannot be sent goes to `unsent`. True when the
    /// kernel was short of something.
    pub(super) fn send_staged(&mut self, unsent: &mut impl Extend<Connection>) -> bool {
        self.iter_mut().fold(false, |short, member| member.send_staged(unsent) | short)
    }

    /// One look of the watch at each. `assigned`: connections begun with a slot's own socket.
    pub(super) fn look(&mut self, look: &Look, assigned: impl Fn(u32) -> u64) -> Watched {
        self.iter_mut().fold(Watched::default(), |all, member| all.and(member.look(look, assigned(member.slot))))
    }

    /// Whoever has much more waiting in its own socket than the others loses turns. Whether that changed for anybody, and whether it
    /// is so for anybody.
    pub(super) fn compare(&mut self, slack: u32) -> (bool, bool) {
        let with_turns = self.iter().filter(|member| member.has_turn());
        let least = with_turns.filter_map(Member::own_socket).map(OwnSocket::depth).min().unwrap_or(0);
        let changed = self.own_sockets_mut().fold(false, |changed, own| own.compare(least, slack) | changed);
        (changed, self.own_sockets().any(|own| own.turns() != Turns::All))
    }

    /// What the poll is to tell of them. `wanted`: somebody could serve what waits in their sockets.
    pub(super) fn watch(&mut self, poll: &Poll, wanted: bool) {
        for member in self.iter_mut() {
            member.watch_own_socket(poll, wanted);
            member.watch_for_return(poll);
        }
    }
}
