//! The members of an address, in the order of their slots.

use std::ops::{Deref, DerefMut, Range};

use super::member::Member;
use crate::mechanism::{OwnSocket, Turns};

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

    /// The one that has the slot's turns, or would have.
    pub(super) fn of_slot(&mut self, slot: u32) -> Option<&mut Member> {
        let all = self.all_of_slot(slot);
        let has_place = |index: &usize| !self.by_slot[*index].is_proving() && !self.by_slot[*index].is_stopping();
        let index = all.clone().find(has_place).or(all.clone().next())?;
        self.get_mut(index)
    }

    /// Several while one takes the place of another.
    fn all_of_slot(&self, slot: u32) -> Range<usize> {
        self.slots.partition_point(|other| *other < slot)..self.slots.partition_point(|other| *other <= slot)
    }

    pub(super) fn has_own_socket(&self, slot: u32) -> bool {
        self.by_slot[self.all_of_slot(slot)].iter().any(|member| member.own_socket().is_some())
    }

    pub(super) fn has_turn(&self, slot: u32) -> bool {
        self.by_slot[self.all_of_slot(slot)].iter().any(Member::has_turn)
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

    /// Whoever has much more waiting in its own socket than the others loses turns. Whether that changed for anybody, and whether it
    /// is so for anybody.
    pub(super) fn compare(&mut self, slack: u32) -> (bool, bool) {
        let with_turns = self.iter().filter(|member| member.has_turn());
        let least = with_turns.filter_map(Member::own_socket).map(OwnSocket::depth).min().unwrap_or(0);
        let changed = self.own_sockets_mut().fold(false, |changed, own| own.compare(least, slack) | changed);
        (changed, self.own_sockets().any(|own| own.turns() != Turns::All))
    }
}
