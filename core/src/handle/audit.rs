//! The audit: undoes what workers did to sockets that are not theirs alone, or in a group with those of others.

use std::time::{Duration, Instant};

use super::Handle;
use crate::settings::MechanismKind;
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
}

impl Handle {
    /// A worker has such a socket, or had one.
    pub(crate) fn wants_audit(&self) -> bool {
        let others_have_some = !self.members.is_empty() || self.sockets.route().keeps_former();
        self.mechanism() != MechanismKind::Passed && others_have_some && self.closing.is_none()
    }

    pub(crate) fn audit(&mut self, poll: &Poll, now: Instant) -> Audited {
        let own = self.members.own_sockets_mut();
        let mut thieves: Vec<u32> = own.filter_map(|own| own.catch_stealing().then(|| own.worker())).collect();
        self.give_up_spoiled(poll);
        let found = self.sockets.route_mut().audit();
        let of_slots = self.members.iter().filter(|member| found.thieves.contains(&member.slot));
        thieves.extend(of_slots.map(|member| member.worker));
        let tell = (found.spoiled.is_some() || !found.risen.is_empty()) && self.may_warn(now);
        Audited { thieves, risen: found.risen, tell, spoiled: found.spoiled.filter(|_| tell) }
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
