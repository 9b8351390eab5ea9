//! A member that is to take the place of another of its slot, and gets nothing before it does.

use super::{Line, Member};
use crate::channel::pending;
use crate::handle::standing::Standing;

impl Member {
    /// It gets nothing before it takes another's place.
    pub(crate) fn prove_first(&mut self) {
        self.proving = true;
    }

    pub(crate) fn is_proving(&self) -> bool {
        self.proving
    }

    /// It has the socket that all have, if perhaps no turns yet.
    pub(in crate::handle) fn has_common_socket(&self) -> bool {
        self.line != Line::Barred
    }

    /// It has the turns of its slot from here on. `assigned`: connections begun with the slot.
    pub(in crate::handle) fn take_place(&mut self, assigned: u64) {
        self.proving = false;
        if let Some(own) = &mut self.own {
            own.begin_with(assigned);
        }
        self.expect_some();
        self.mailbox.owe_begin();
        self.pay_begin();
    }

    /// Tells it that it has the turns, unless that was done. Of one that has no socket it is not heeded.
    pub(super) fn pay_begin(&mut self) {
        if self.mailbox.owes_begin()
            && !self.standing.is_broken()
            && let Err(errno) = self.mailbox.send_begin()
            && pending(errno).is_none()
        {
            self.standing = Standing::BROKEN;
        }
    }

    /// Another has the turns of its slot from here on.
    pub(in crate::handle) fn lose_place(&mut self, assigned: u64) {
        self.lose_turns();
        if let Some(own) = &mut self.own {
            own.end_with(assigned);
        }
    }
}
