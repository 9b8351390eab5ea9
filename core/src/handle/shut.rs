//! What is remembered from the moment when nobody new comes in.

use std::time::{Duration, Instant};

use super::member::Member;
use super::members::Members;

pub(super) struct Shut {
    since: Instant,
    /// Looks in a row that found nobody.
    quiet: u32,
    /// How much each listener's worker had taken by then.
    taken: Vec<(u32, (u64, u64))>,
}

impl Shut {
    pub(super) fn new(members: &Members, since: Instant) -> Self {
        let taken = members.iter().map(|member| (member.listener, member.signs_of_taking())).collect();
        Self { since, quiet: 0, taken }
    }

    pub(super) fn lasts(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.since)
    }

    /// One look has been taken. How many in a row have found nobody.
    pub(super) fn looked(&mut self, quiet: bool) -> u32 {
        self.quiet = if quiet { self.quiet + 1 } else { 0 };
        self.quiet
    }

    /// Something waits for a member, whose worker has taken nothing since.
    pub(super) fn is_still(&self, member: &Member) -> bool {
        let before = self.taken.iter().find(|(listener, _)| *listener == member.listener);
        member.keeps_waiting() && before.is_none_or(|(_, taken)| *taken == member.signs_of_taking())
    }
}
