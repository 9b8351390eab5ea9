//! Which member gets the next connection: the policies at work on a handle.
//!
//! Most policies name a member before there is a connection. SOURCE_HASH needs the connection first, so under it the
//! primary may have one in its hands whose member is full; it holds it for that member (`Held`) until there is room, or
//! until the member is gone and others get it.

use std::time::Instant;

use super::closing::REST;
use super::held::HELD_MAX;
use super::{Handle, MechanismKind};
use crate::mailbox::Connection;
use crate::mechanism::Accepted;
use crate::policy::{Chooser, Policy, hash_of_client};
use crate::sys::poll::Poll;

/// Who can take a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sink {
    /// This member, by its index.
    Member(usize),
    /// Whoever the client's address belongs to.
    ByClient,
}

/// What is left after a turn.
#[derive(Debug, Clone, Copy)]
pub(super) struct Awaited {
    pub(super) open: bool,
    pub(super) again: bool,
}

impl Handle {
    /// From now on connections are spread in this way. `seed` must not be known to clients.
    pub(crate) fn choose_by(&mut self, policy: Policy, seed: u32) {
        // Nothing tells apart the clients of a unix socket.
        let by_client = policy == Policy::SourceHash && self.name.to_inet().is_some();
        let policy = if policy == Policy::SourceHash && !by_client { Policy::RoundRobin } else { policy };
        self.chooser = Chooser::new(policy, seed);
    }

    /// Who gets the next connection, where the primary has a say in it.
    pub(crate) fn policy(&self) -> Policy {
        self.chooser.policy()
    }

    /// Brings up to date what the policy knows, and gives room that has appeared to those it is held for.
    pub(super) fn begin_turn(&mut self, now: Instant) {
        match &mut self.chooser {
            Chooser::RoundRobin(_) => {}
            Chooser::LeastLoaded(_) => self.members.iter_mut().for_each(|member| member.look_at_load(now)),
            Chooser::SourceHash(table) => {
                table.follow(self.members.iter().filter(|member| member.has_turn()).map(|member| member.slot));
                let released = self.held.release(|slot| table.slots().binary_search(&slot).is_err());
                self.unsent.extend(released);
                self.stage_held();
            }
        }
    }

    /// Who can take the next connection, if anybody can.
    pub(super) fn sink(&mut self) -> Option<Sink> {
        let kernel = self.mechanism.kind() == MechanismKind::Kernel;
        let (members, slots) = (&mut self.members, &self.slots);
        match &self.chooser {
            Chooser::RoundRobin(rotation) => {
                // Those that the kernel gives none come first.
                let bare = |index: usize| members[index].queue().is_none() && members[index].is_open();
                let first = if kernel { rotation.next(slots, bare) } else { None };
                first.or_else(|| rotation.next(slots, |index| members[index].is_open())).map(Sink::Member)
            }
            Chooser::LeastLoaded(policy) => {
                let burden = |index: usize| members[index].is_open().then(|| members[index].burden());
                policy.next(slots, burden).map(Sink::Member)
            }
            Chooser::SourceHash(table) => {
                (!table.slots().is_empty() && self.held.len() < HELD_MAX).then_some(Sink::ByClient)
            }
        }
    }

    /// Gives a connection to whom `sink` found.
    pub(super) fn place(&mut self, connection: Connection, sink: Sink) {
        match sink {
            Sink::Member(index) => {
                let slot = self.slots[index];
                match &mut self.chooser {
                    Chooser::RoundRobin(rotation) => rotation.served(slot),
                    Chooser::LeastLoaded(policy) => policy.served(slot),
                    Chooser::SourceHash(_) => {}
                }
                self.members[index].stage(connection);
            }
            Sink::ByClient => match self.slot_of(&connection) {
                Some(slot) => match self.slots.binary_search(&slot) {
                    Ok(index) if self.held.of(slot) == 0 && self.members[index].is_open() => {
                        self.members[index].stage(connection);
                    }
                    _ => self.held.push(slot, connection),
                },
                None => self.unsent.push_back(connection),
            },
        }
    }

    fn slot_of(&self, connection: &Connection) -> Option<u32> {
        let Chooser::SourceHash(table) = &self.chooser else {
            return None;
        };
        // Of a client that has gone already no address is known, and nobody will miss the place it had.
        let hash = connection.peer.to_inet().map_or(0, |peer| hash_of_client(peer.ip(), table.seed()));
        table.slot_of(hash)
    }

    /// After a turn: whether anything more could be taken from the sources, and whether there is something to do that no
    /// event will tell of. Where somebody's room is waited for, an event will.
    pub(super) fn await_room(&mut self, poll: &Poll, now: Instant) -> Awaited {
        let mut open = self.sink().is_some();
        let mut again = false;
        let by_client = matches!(self.chooser, Chooser::SourceHash(_));
        for member in &mut self.members {
            if by_client && self.held.of(member.slot) > 0 {
                again |= !member.has_turn() || member.tell_when_room(poll, now);
            } else if !by_client && !open {
                // A worker may have taken something since it was found full.
                open |= member.tell_when_room(poll, now);
            }
        }
        Awaited { open, again }
    }

    /// A listener is about to be stopped and nobody else is in the rotation: what the primary has in its hands goes with
    /// it, before the stop, since nobody may come after it; and so does what others have left, or stand still in front of.
    pub(super) fn give_all_in_hand(&mut self, index: usize) {
        let held = self.held.release(|_| true);
        self.unsent.extend(held);
        if !self.members[index].can_be_sent() {
            return;
        }
        let moves = self.members[index].moves();
        for _ in 0..REST {
            let next = match self.unsent.pop_front() {
                Some(connection) => connection,
                None if moves => match self.take_left() {
                    Accepted::Connection(connection) => connection,
                    _ => return,
                },
                None => return,
            };
            self.members[index].mailbox.make_room(1);
            if self.members[index].send(&next).is_err() {
                self.unsent.push_front(next);
                return;
            }
        }
    }

    fn stage_held(&mut self) {
        let slots: Vec<u32> = self.held.slots().collect();
        for slot in slots {
            let Ok(index) = self.slots.binary_search(&slot) else { continue };
            while self.members[index].is_open() {
                match self.held.pop(slot) {
                    Some(connection) => self.members[index].stage(connection),
                    None => break,
                }
            }
        }
    }
}
