//! Telling the mechanism whose turn it may be: at once where a member comes or goes, and once a turn of the primary's for what a worker
//! can say again and again, since a table of all buckets costs some 40 µs.

use super::{Handle, Member};
use crate::mechanism::Turns;
use crate::policy::Chooser;

/// What the mechanism was told last.
#[derive(Default)]
pub(super) struct Told {
    stale: bool,
    /// The table of buckets that it has: its version, and who had a queue of his own.
    buckets: Option<(u64, Vec<u32>)>,
}

impl Handle {
    /// Tells the kernel whose turn it may be. In the order of the slots, as the policy's own.
    pub(super) fn give_turns(&mut self) {
        self.told.stale = false;
        let having = self.members.iter().filter(|member| member.has_turn());
        if let Chooser::SourceHash(table) = &mut self.chooser {
            // Who is only slow keeps his clients.
            table.follow(having.clone().map(|member| member.slot));
            let seated: Vec<u32> = having.filter(|member| member.queue().is_some()).map(|member| member.slot).collect();
            let known = self.told.buckets.as_ref();
            if known.is_some_and(|(version, known)| *version == table.version() && *known == seated) {
                return;
            }
            let place = |slot: &u32| seated.binary_search(slot).is_ok().then_some(*slot);
            self.mechanism.set_turns(&mut table.owners().iter().map(place));
            self.told.buckets = Some((table.version(), seated));
            return;
        }
        let turn = |member: &Member| member.queue().map(|_| member.slot);
        let most = having.clone().filter(|member| member.turns() != Turns::None).map(turn);
        let half = having.clone().any(|member| member.turns() == Turns::Half);
        // Twice around, and in the second those with half their turns are passed over.
        let again = having.filter(|member| half && member.turns() == Turns::All).map(turn);
        self.mechanism.set_turns(&mut most.chain(again));
    }

    /// The same before connections are moved the next time, which is at the end of this turn.
    pub(super) fn give_turns_later(&mut self) {
        self.told.stale = true;
    }

    pub(super) fn give_turns_if_stale(&mut self) {
        if self.told.stale {
            self.give_turns();
        }
    }

    /// Its clients are told apart: that a member comes or goes changes a table.
    pub(crate) fn is_by_client(&self) -> bool {
        matches!(self.chooser, Chooser::SourceHash(_))
    }
}
