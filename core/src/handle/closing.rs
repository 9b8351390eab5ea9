//! An address is given up: first nobody new comes in, then everybody who is there is served, then it is closed.
//!
//! A listening socket that is closed resets whoever waits in it and whose handshake is under way. So it is bound to an interface
//! that does not exist (a unix socket is shut down): whoever comes is refused, what had begun goes on. While that lasts, the
//! primary accepts wherever it can, looks now and then, and the workers are not told to leave before all is served.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use super::{Handle, Member};
use crate::mechanism::{Accepted, give_up};
use crate::sys::poll::Poll;
use crate::sys::{door, socket};

pub(super) use crate::sys::door::HANDSHAKES;
/// The same where the kernel does not tell of any.
pub(super) const UNTOLD: Duration = Duration::from_millis(100);
/// A SYN that met the socket in the moment in which the door was shut shows at the second look.
const LOOKS: u32 = 2;
/// What is handed out at most when the time is over, and to the last to leave.
pub(super) const REST: usize = 4096;

pub(super) struct Closing {
    since: Instant,
    quiet: u32,
    /// How much each listener's worker had taken by then.
    taken: Vec<(u32, (u64, u64))>,
}

/// What a look found under way on the host; see `door::handshakes`.
pub(crate) type Handshakes = Option<Vec<u16>>;

impl Handle {
    /// From here on whoever comes is refused.
    pub(crate) fn shut_door(&mut self, poll: &Poll, now: Instant) {
        if self.closing.is_some() {
            return;
        }
        let taken = self.members.iter().map(|member| (member.listener, member.taken())).collect();
        self.closing = Some(Closing { since: now, quiet: 0, taken });
        if self.ours && !self.datagram {
            let inet = self.name.to_inet().is_some();
            self.each_socket(&mut |one| door::shut(one, inet));
            self.mechanism.accept_last();
        }
        self.accept_while(false, poll);
    }

    fn each_socket(&self, see: &mut dyn FnMut(BorrowedFd<'_>)) {
        self.mechanism.each_socket(see);
        let queues = self.members.iter().filter_map(|member| member.queue()).chain(self.retired.sockets());
        queues.for_each(|queue| see(queue.socket()));
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.is_some()
    }

    /// For how long it has been.
    pub(crate) fn closing_for(&self, now: Instant) -> Duration {
        self.closing.as_ref().map_or(Duration::ZERO, |closing| now.saturating_duration_since(closing.since))
    }

    /// Everybody who had come is served or about to be. `handshakes` is asked only if nothing else is under way, and before the
    /// last look at the queue that they end in.
    pub(crate) fn is_quiet(&mut self, now: Instant, handshakes: &mut dyn FnMut() -> Handshakes) -> bool {
        if self.datagram {
            return true;
        }
        let lasts = self.closing_for(now);
        let quiet = !self.keeps_waiting() && !self.has_handshakes(lasts, handshakes) && !self.keeps_waiting();
        let Some(closing) = &mut self.closing else { return true };
        closing.quiet = if quiet { closing.quiet + 1 } else { 0 };
        // Nobody of ours comes to the socket of others, whose door stays open.
        closing.quiet >= if self.ours { LOOKS } else { 1 }
    }

    fn has_handshakes(&self, lasts: Duration, handshakes: &mut dyn FnMut() -> Handshakes) -> bool {
        let Some(name) = self.name.to_inet().filter(|_| self.ours && lasts < HANDSHAKES) else { return false };
        match handshakes() {
            Some(ports) => ports.contains(&name.port()),
            None => lasts < UNTOLD,
        }
    }

    fn keeps_waiting(&self) -> bool {
        self.unserved() > 0
            || (self.ours && self.mechanism.has_waiting())
            || self.retired.sockets().any(|queue| queue.waiting().unwrap_or(0) > 0)
            || self.members.iter().any(|member| member.keeps_waiting())
    }

    /// The time is over: what nobody has been given yet goes to those who are there, before they are told to leave.
    pub(crate) fn hand_out_rest(&mut self) {
        self.pass_over_still();
        let held = self.held.release(|_| true);
        self.unsent.extend(held);
        for _ in 0..REST {
            let burden = |index: &usize| (!self.members[*index].moves(), self.members[*index].mailbox.waiting());
            let able = (0..self.members.len()).filter(|index| self.members[*index].can_be_sent());
            let Some(index) = able.min_by_key(burden) else { return };
            let Accepted::Connection(connection) = self.take() else { return };
            let member = &mut self.members[index];
            member.mailbox.make_room(1);
            if member.send(&connection).is_err() {
                self.unsent.push_front(connection);
                return;
            }
        }
    }

    /// Whoever has taken nothing of what waits for it since the door was shut would keep it to the end, though others have nothing to
    /// do; with a short deadline it is not known as stuck by then.
    fn pass_over_still(&mut self) {
        let Some(closing) = &self.closing else { return };
        let is_still = |member: &Member| {
            let before = closing.taken.iter().find(|(listener, _)| *listener == member.listener);
            member.keeps_waiting() && before.is_none_or(|(_, taken)| *taken == member.taken())
        };
        let still: Vec<usize> = (0..self.members.len()).filter(|index| is_still(&self.members[*index])).collect();
        if self.members.iter().any(|member| member.can_be_sent() && member.moves() && !is_still(member)) {
            still.into_iter().for_each(|index| self.members[index].pass_over());
        }
    }

    /// What is left of an address that is given up ends in every process that has it: a child of a worker's own may.
    pub(super) fn end_for_all(&mut self) {
        // Connections that nobody can get any more would stay open in what such a child has of the mailbox.
        while let Some(orphan) = self.orphans.front_mut() {
            match orphan.take_back() {
                Ok(crate::mailbox::TakenBack::Connection(_)) => {}
                _ => drop(self.orphans.pop_front()),
            }
        }
        if self.ours && self.members.is_empty() {
            let (datagram, inet) = (self.datagram, self.name.to_inet().is_some());
            self.mechanism.each_socket(&mut |one| match (datagram, inet) {
                // Only the last copy's end frees the port, but who sends there is told that nobody reads.
                (true, _) => drop(door::bind_to_nowhere(one)),
                (false, true) => give_up(one),
                (false, false) => socket::stop_listening(one),
            });
        }
    }

    /// It is of that key, and a unix socket without a file.
    pub(crate) fn is_abstract(&self, key: &str) -> bool {
        self.ours && self.key == key && self.file.is_none() && self.name.to_inet().is_none()
    }

    /// Lets the address be bound anew beside what is left of it.
    pub(crate) fn make_way(&mut self) {
        if let Some(file) = self.file.take() {
            file.remove();
        }
        if self.ours && self.name.to_inet().is_some() {
            self.each_socket(&mut |one| {
                // Without it the address is found taken.
                let _ = socket::set_reuse_port(one);
            });
        }
    }
}
