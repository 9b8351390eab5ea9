//! Which member gets the next connection: the policies at work on a handle.
//!
//! Most policies name a member before there is a connection. SOURCE_HASH needs the connection first, so under it the
//! primary may have one in its hands whose member is full; it holds it for that member (`Held`) until there is room, or
//! until the member is gone and others get it.

use std::time::Instant;

use super::held::{HELD_MAX, Held};
use super::members::Members;
use crate::mailbox::Connection;
use crate::policy::{Chooser, Policy, Table, hash_of_client};
use crate::sys::poll::Poll;

/// Who can take a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sink {
    /// This member, by its index.
    Member(usize),
    /// Whoever the client's address belongs to.
    ByClient,
}

pub(super) struct Choosing {
    chooser: Chooser,
    /// Members to which the kernel gives none come first.
    bare_first: bool,
    /// Connections that only one member may get and that has no room.
    held: Held<Connection>,
}

impl Choosing {
    /// `seed` must not be known to clients. `bare_first`: the kernel gives connections to members with an own socket.
    pub(super) fn new(policy: Policy, seed: u32, bare_first: bool) -> Self {
        Self { chooser: Chooser::new(policy, seed), bare_first, held: Held::default() }
    }

    pub(super) fn policy(&self) -> Policy {
        self.chooser.policy()
    }

    pub(super) fn is_by_client(&self) -> bool {
        matches!(self.chooser, Chooser::SourceHash(_))
    }

    /// The owners of clients, where the policy has such.
    pub(super) fn table(&mut self) -> Option<&mut Table> {
        match &mut self.chooser {
            Chooser::SourceHash(table) => Some(table),
            _ => None,
        }
    }

    /// What is held for members, all together and for that of a slot.
    pub(super) fn held(&self) -> &Held<Connection> {
        &self.held
    }

    /// Brings up to date what the policy knows, and gives room that has appeared to those it is held for. What was held for members
    /// that are gone.
    pub(super) fn begin_turn(&mut self, members: &mut Members, now: Instant) -> Vec<Connection> {
        match &mut self.chooser {
            Chooser::RoundRobin(_) => Vec::new(),
            Chooser::LeastLoaded(_) => {
                members.iter_mut().for_each(|member| member.look_at_load(now));
                Vec::new()
            }
            Chooser::SourceHash(table) => {
                table.follow(members.iter().filter(|member| member.has_turn()).map(|member| member.slot));
                let released = self.held.release(|slot| table.slots().binary_search(&slot).is_err());
                self.stage_held(members);
                released
            }
        }
    }

    fn stage_held(&mut self, members: &mut Members) {
        for slot in self.held.slots().collect::<Vec<u32>>() {
            let Some(member) = members.of_slot(slot) else { continue };
            while member.is_open(true)
                && let Some(connection) = self.held.pop(slot)
            {
                member.stage(connection);
            }
        }
    }

    /// Nobody is waited for any more: all that is held.
    pub(super) fn release_all(&mut self) -> Vec<Connection> {
        self.held.release(|_| true)
    }

    /// Who can take the next connection, if anybody can. `given`: one that was somebody's already.
    pub(super) fn sink(&self, members: &mut Members, given: bool) -> Option<Sink> {
        let (members, slots) = members.with_slots();
        match &self.chooser {
            Chooser::RoundRobin(rotation) => {
                let bare = |index: usize| members[index].own_socket().is_none() && members[index].is_open(given);
                let first = if self.bare_first { rotation.next(slots, bare) } else { None };
                first.or_else(|| rotation.next(slots, |index| members[index].is_open(given))).map(Sink::Member)
            }
            Chooser::LeastLoaded(policy) => {
                let burden = |index: usize| members[index].is_open(given).then(|| members[index].burden());
                policy.next(slots, burden).map(Sink::Member)
            }
            Chooser::SourceHash(table) => {
                (!table.slots().is_empty() && self.held.len() < HELD_MAX).then_some(Sink::ByClient)
            }
        }
    }

    /// Gives a connection to whom `sink` found. It comes back if nobody is there for its client.
    pub(super) fn place(&mut self, connection: Connection, sink: Sink, members: &mut Members) -> Option<Connection> {
        let slot = match sink {
            Sink::Member(index) => {
                let slot = members.slots()[index];
                match &mut self.chooser {
                    Chooser::RoundRobin(rotation) => rotation.served(slot),
                    Chooser::LeastLoaded(policy) => policy.served(slot),
                    Chooser::SourceHash(_) => {}
                }
                members[index].stage(connection);
                return None;
            }
            Sink::ByClient => self.slot_of(&connection),
        };
        let Some(slot) = slot else { return Some(connection) };
        if self.held.of(slot) == 0
            && let Some(member) = members.of_slot(slot)
            && member.is_open(true)
        {
            member.stage(connection);
        } else {
            self.held.push(slot, connection);
        }
        None
    }

    fn slot_of(&self, connection: &Connection) -> Option<u32> {
        let Chooser::SourceHash(table) = &self.chooser else {
            return None;
        };
        // A client that has gone already has no address, and its place will not be missed.
        let hash = connection.peer.to_inet().map_or(0, |peer| hash_of_client(peer.ip(), table.seed()));
        table.slot_of(hash)
    }

    /// After a turn: whether anything more could be taken from the sources, and whether there is something to do that no
    /// event will tell of. Where somebody's room is waited for, an event will. `given`: the sources have some that were somebody's already.
    pub(super) fn await_room(&self, members: &mut Members, poll: &Poll, given: bool, now: Instant) -> (bool, bool) {
        let mut open = self.sink(members, given).is_some();
        let mut again = false;
        let by_client = self.is_by_client();
        let deserted = |slot: u32| !members.has_turn(slot);
        again |= by_client && self.held.slots().any(deserted);
        for member in members.iter_mut() {
            if by_client && self.held.of(member.slot) > 0 {
                again |= member.has_turn() && member.tell_when_room(poll, given, now);
            } else if !by_client && !open {
                // A worker may have taken something since it was found full.
                open |= member.tell_when_room(poll, given, now);
            }
        }
        (open, again)
    }
}
