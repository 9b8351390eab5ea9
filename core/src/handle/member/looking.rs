//! Whether a member keeps up with what comes to it.

use super::Member;
use crate::mechanism::{LOOK, Look, Seen, Watched};

impl Member {
    /// One look of the watch.
    pub(in crate::handle) fn look(&mut self, look: &Look, assigned: u64) -> Watched {
        let before = self.standing;
        let mailbox = Watched { again: self.look_at_mailbox(look).then_some(LOOK), changed: false };
        let own = self.look_at_own(look, assigned);
        mailbox.and(own).and(Watched { again: None, changed: self.standing != before })
    }

    /// Something is in its mailbox and may have to be taken back.
    pub(super) fn mailbox_wants_watch(&self) -> bool {
        if self.standing.is_left_alone() {
            return false;
        }
        match (self.standing.is_drained(), self.standing.is_stuck()) {
            // The NOP could not be sent.
            (true, _) => self.shows_nothing(),
            // A BEGIN that it has not taken keeps nobody waiting.
            (false, true) => self.mailbox.clients_waiting() > 0,
            (false, false) => self.mailbox.waiting() > 0 || self.mailbox.owes_begin(),
        }
    }

    fn look_at_mailbox(&mut self, look: &Look) -> bool {
        self.pay_begin();
        let waiting = self.mailbox.waiting();
        self.look_whether_back(look.poll);
        self.ask_whether_back();
        if waiting == 0 {
            self.pace.forget();
            return self.mailbox_wants_watch();
        }
        if self.pace.look(&mut self.mailbox, look.evidence()) && self.standing.is_open() {
            self.get_stuck();
            self.arm(true, look.poll);
        }
        self.mailbox_wants_watch()
    }

    fn look_at_own(&mut self, look: &Look, assigned: u64) -> Watched {
        let has_turn = self.has_turn();
        let Some(own) = &mut self.own else { return Watched::default() };
        if !has_turn {
            own.out_of_turn();
            return Watched::default();
        }
        match own.look(look, assigned) {
            Seen::Moving(watched) => watched,
            Seen::Unnoticed => Watched { again: Some(look.soon()), changed: true },
            Seen::Stuck => {
                self.get_stuck();
                self.arm(true, look.poll);
                // It shows when the worker is back.
                let _ = self.mailbox.send_nop();
                Watched::default()
            }
            Seen::Gone => Watched { again: None, changed: true },
        }
    }
}
