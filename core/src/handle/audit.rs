//! The audit: undoes what workers did to sockets that are not theirs alone, or in a group with those of others.

use std::time::{Duration, Instant};

use super::Handle;
use super::attention::AUDIT;
use super::member::Member;
use crate::mechanism::OwnSocket;
use crate::sys::poll::Poll;

/// How often the program is told at most of what goes wrong at an address and is no one worker's offence.
pub(super) const TELL_AGAIN: Duration = Duration::from_secs(60);

/// What an audit found.
pub(crate) struct Audited {
    /// Workers that had taken others' connections.
    pub(crate) thieves: Vec<u32>,
    /// Workers that may be gone and whose former socket was made to receive again, by them or by a process that they left behind.
    pub(crate) risen: Vec<u32>,
    /// The program is to be told of those that are gone.
    pub(crate) tell: bool,
    /// What somebody had done to a socket that all have, if the program is to be told.
    pub(crate) spoiled: Option<&'static str>,
    /// In how long the next is due, if one is.
    pub(crate) again: Option<Duration>,
}

impl Handle {
    /// Something happens at it.
    pub(crate) fn attend(&mut self) {
        self.attention.wake();
    }

    /// A worker has such a socket, or had one, and something happens there.
    pub(crate) fn wants_audit(&self) -> bool {
        let route = self.sockets.route();
        let others_have_some = !self.members.is_empty() || route.keeps_former();
        route.is_common() && others_have_some && self.closing.is_none() && self.attention.is_awake()
    }

    /// The same when it has just begun to.
    pub(crate) fn begins_to_want_audits(&mut self) -> bool {
        self.attention.take_woken() && self.wants_audit()
    }

    pub(crate) fn audit(&mut self, poll: &Poll, now: Instant) -> Audited {
        let route = self.sockets.route();
        let may_sleep = !route.keeps_former() && !self.has_waiting();
        let mut again = self.attention.audited(route.begun(), route.counts(), may_sleep);
        if again.is_none() && !self.sockets.watch_common(poll) {
            self.attention.wake();
            again = Some(AUDIT);
        }
        // A connection of which the poll tells nobody: its worker was woken for it, and does something else first.
        self.members
            .iter_mut()
            .filter(|member| member.has_turn())
            .filter_map(Member::own_socket_mut)
            .for_each(OwnSocket::look_unannounced);
        self.suspect(now);
        let own = self.members.own_sockets_mut();
        let mut thieves: Vec<u32> = own.filter_map(|own| own.catch_stealing().then(|| own.worker())).collect();
        self.give_up_spoiled(poll);
        let found = self.sockets.route_mut().audit();
        let of_slots = self.members.iter().filter(|member| found.thieves.contains(&member.slot));
        thieves.extend(of_slots.map(|member| member.worker));
        let tell = (found.spoiled.is_some() || !found.risen.is_empty()) && self.may_warn(now);
        Audited { thieves, risen: found.risen, tell, spoiled: found.spoiled.filter(|_| tell), again }
    }

    /// True if no warning about this address was raised recently. Workers can trigger these at will, so they are rate-limited.
    pub(crate) fn may_warn(&mut self, now: Instant) -> bool {
        let due = self.warned_at.is_none_or(|told| now.saturating_duration_since(told) >= TELL_AGAIN);
        if due {
            self.warned_at = Some(now);
        }
        due
    }
}
