//! The watch of a handle: while anything waits, it looks at mailboxes and own sockets to find those that stand still.

use std::time::{Duration, Instant};

use super::Handle;
use super::attention::Looked;
use super::member::Member;
use crate::mechanism::{LOOK, Look, OwnSocket, Watched};

impl Handle {
    /// True when some member should be looked at.
    pub(crate) fn has_waiting(&self) -> bool {
        self.members.iter().any(Member::wants_watch)
    }

    /// In how long some member should be looked at.
    pub(crate) fn next_look(&self, now: Instant) -> Option<Duration> {
        self.has_waiting().then_some(LOOK).or_else(|| self.attention.next_look(now))
    }

    /// One look at every member. One whose mailbox or own socket does not move is stuck and loses its turn; one that moves again gets
    /// it back.
    pub(crate) fn watch(&mut self, look: &Look, now: Instant) -> Watched {
        let look = if self.choosing.is_by_client() { look.at_owners() } else { Look { ..*look } };
        let route = self.sockets.route();
        if self.attention.look(route.begun(), now) == Looked::All {
            self.members.iter_mut().filter(|member| member.has_turn()).for_each(Member::expect_some);
        }
        let look = &Look { calm: self.attention.is_calm(), ..look };
        let each = self.members.iter_mut().map(|member| member.look(look, route.assigned(member.slot)));
        let watched = each.fold(Watched::default(), Watched::and);
        for last_of in self.members.own_sockets_mut().filter_map(OwnSocket::take_needless) {
            self.attention.was_needless(last_of, route.begun(), now);
        }
        self.give_up_spoiled(look.poll);
        let (turns_changed, some_behind) = self.members.compare(look.slack);
        if watched.changed || turns_changed {
            self.give_turns();
        }
        let next = self.attention.next_look(now);
        let watched = watched.and(Watched { again: next, changed: false });
        watched.and(Watched { again: some_behind.then(|| look.soon()), changed: false })
    }
}
