//! The watch of a handle: while anything waits, it looks at mailboxes and own sockets to find those that stand still.

use super::Handle;
use super::member::Member;
use crate::mechanism::{Look, Watched};

impl Handle {
    /// True when some member should be looked at.
    pub(crate) fn has_waiting(&self) -> bool {
        self.members.iter().any(Member::wants_watch)
    }

    /// One look at every member. One whose mailbox or own socket does not move is stuck and loses its turn; one that moves again gets
    /// it back.
    pub(crate) fn watch(&mut self, look: &Look) -> Watched {
        let look = if self.choosing.is_by_client() { &look.at_owners() } else { look };
        let route = self.sockets.route();
        let each = self.members.iter_mut().map(|member| member.look(look, route.assigned(member.slot)));
        let watched = each.fold(Watched::default(), Watched::and);
        self.give_up_spoiled(look.poll);
        let (turns_changed, some_behind) = self.members.compare(look.slack);
        if watched.changed || turns_changed {
            self.give_turns();
        }
        watched.and(Watched { again: some_behind.then(|| look.soon()), changed: false })
    }
}
