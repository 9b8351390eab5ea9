//! Telling the kernel whose turn it may be: at once where a member comes or goes, and once a turn of the primary's for what a worker
//! can say again and again, since a table of all buckets costs some 40 µs.

use super::choosing::Choosing;
use super::members::Members;
use crate::mechanism::{OwnSocket, Route, Turns};

/// What the kernel was told last.
#[derive(Default)]
pub(super) struct TurnsGiven {
    stale: bool,
    /// The table of buckets that it has: its version, and who had an own socket.
    buckets: Option<(u64, Vec<u32>)>,
}

impl TurnsGiven {
    /// Tells it whose turn it may be. In the order of the slots, as the policy's own.
    pub(super) fn give(&mut self, members: &Members, choosing: &mut Choosing, route: &mut dyn Route) {
        self.stale = false;
        let having = members.iter().filter(|member| member.has_turn());
        if let Some(table) = choosing.table() {
            // Who is only slow keeps its clients.
            table.follow(having.clone().map(|member| member.slot));
            let own: Vec<u32> =
                having.filter(|member| member.own_socket().is_some()).map(|member| member.slot).collect();
            let known = self.buckets.as_ref();
            if known.is_some_and(|(version, known)| *version == table.version() && *known == own) {
                return;
            }
            let place = |slot: &u32| own.binary_search(slot).is_ok().then_some(*slot);
            route.set_turns(&mut table.owners().iter().map(place));
            self.buckets = Some((table.version(), own));
            return;
        }
        let turns = having.map(|member| {
            let turns = member.own_socket().map_or(Turns::All, OwnSocket::turns);
            (member.accepts_by_itself().then_some(member.slot), turns)
        });
        let half = turns.clone().any(|(_, turns)| turns == Turns::Half);
        let most = turns.clone().filter(|(_, turns)| *turns != Turns::None);
        // Twice around, and in the second those with half their turns are passed over.
        let again = turns.filter(|(_, turns)| half && *turns == Turns::All);
        route.set_turns(&mut most.chain(again).map(|(slot, _)| slot));
    }

    /// That is to be done before connections are moved the next time, which is at the end of this turn.
    pub(super) fn give_later(&mut self) {
        self.stale = true;
    }

    pub(super) fn is_stale(&self) -> bool {
        self.stale
    }
}
