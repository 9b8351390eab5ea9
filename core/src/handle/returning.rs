//! Connections that come back: workers hand them back when they leave, or do not want them after all.

use super::{Handle, Member};
use crate::mailbox::Connection;

/// With so many in the primary's hands, nothing more is taken from those who leave.
const IN_HAND: usize = 64;

impl Handle {
    /// Somebody else than this worker gets its connections, if perhaps not now.
    pub(crate) fn is_served_beside(&self, worker: u32) -> bool {
        let mut others = self.members.iter().filter(|member| member.worker != worker);
        !self.datagram && self.closing.is_none() && others.any(Member::can_be_sent)
    }

    pub(crate) fn has_room_for_returns(&self) -> bool {
        self.flow.in_hand() < IN_HAND
    }

    /// A connection that was handed back: it goes to whoever is next, or to the one that its client belongs to.
    pub(crate) fn hand_on(&mut self, connection: Connection) {
        self.flow.hand_on(connection);
    }

    /// A connection that its taker did not want after all.
    pub(crate) fn put_back(&mut self, connection: Connection) {
        self.flow.put_back(connection);
    }
}
