//! Whether a handle's state agrees with itself; for the fuzzer and the tests.

use super::Handle;
use super::held::HELD_MAX;
use crate::settings::WINDOW_MAX;

/// Stops and NOPs, and what `hand_out` puts in beyond the window.
const BEYOND_WINDOW: u32 = HELD_MAX as u32 + 64;

impl Handle {
    /// Panics when it does not. `is_known`: the listener is in the books of its worker.
    pub(crate) fn check(&self, is_known: impl Fn(u32, u32) -> bool) {
        let slots: Vec<u32> = self.members.iter().map(|member| member.slot).collect();
        assert_eq!(self.members.slots(), slots, "what the policy reads");
        assert!(slots.is_sorted(), "in order");
        for slot in slots {
            let having = self.members.iter().filter(|member| member.slot == slot && member.can_be_sent());
            assert!(having.count() <= 1, "slot {slot} has the turns of one member");
        }
        assert!(self.choosing.held().len() <= HELD_MAX);
        for member in self.members.iter() {
            assert!(is_known(member.listener, member.worker), "listener {} of nobody", member.listener);
            assert!(member.mailbox.waiting() <= WINDOW_MAX + BEYOND_WINDOW);
            assert!(member.mailbox.has_nothing_staged(), "what was staged is sent at the end of a turn");
        }
        assert!(self.choosing.held().slots().all(|slot| self.choosing.held().of(slot) > 0));
    }

    /// The most descriptors that it may have.
    pub(crate) fn descriptors_most(&self) -> usize {
        /// The mailbox's two ends and the slot's own socket.
        const MEMBER: usize = 3;
        // A slot that was left keeps its socket; a vacant one is one of those that there have been.
        self.sockets.route().descriptors_most()
            + MEMBER * self.members.len()
            + self.sockets.retired().descriptors_most()
            + self.flow.descriptors_most()
            + self.choosing.held().len()
    }
}
