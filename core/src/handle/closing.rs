//! An address is given up: first nobody new comes in, then everybody who is there is served, then it is closed.
//!
//! Closing a listening socket resets everybody who waits in it or is in the middle of a handshake. So it is bound to an interface
//! that does not exist (a unix socket is shut down): newcomers are refused, and handshakes that have begun go on. Meanwhile the
//! primary accepts wherever it can and checks now and then. The workers are not told to leave before everybody is served.

use std::time::{Duration, Instant};

use super::Handle;
use super::shut::Shut;
use crate::mechanism::{Selector, give_up};
use crate::sys::poll::Poll;
use crate::sys::{door, socket};

pub(super) use crate::sys::door::HANDSHAKES;
/// The same where the kernel does not tell of any.
pub(super) const UNTOLD: Duration = Duration::from_millis(100);
/// A SYN that met the socket in the moment in which the door was shut shows at the second look.
const LOOKS: u32 = 2;

/// What a look found under way on the host; see `door::handshakes`.
pub(crate) type Handshakes = Option<Vec<u16>>;

impl Handle {
    /// From here on whoever comes is refused.
    pub(crate) fn shut_door(&mut self, poll: &Poll, now: Instant) {
        if self.closing.is_some() {
            return;
        }
        self.closing = Some(Shut::new(&self.members, now));
        if self.ours && !self.datagram {
            let inet = self.name.to_inet().is_some();
            self.sockets.each(&self.members, &mut |one| door::shut(one, inet));
            self.sockets.route_mut().accept_last();
        }
        // Whoever is there may come by the primary now, too.
        for member in self.members.iter_mut() {
            member.leave_line();
        }
        self.sockets.unwatch(&mut self.members, poll);
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.is_some()
    }

    /// For how long it has been.
    pub(crate) fn closing_for(&self, now: Instant) -> Duration {
        self.closing.as_ref().map_or(Duration::ZERO, |shut| shut.lasts(now))
    }

    /// Everybody who had come is served or about to be. `handshakes` is asked only if nothing else is under way, and before the last
    /// look at the queue in which they end.
    pub(crate) fn is_quiet(&mut self, now: Instant, handshakes: &mut dyn FnMut() -> Handshakes) -> bool {
        if self.datagram {
            return true;
        }
        let lasts = self.closing_for(now);
        let quiet = !self.keeps_waiting() && !self.has_handshakes(lasts, handshakes) && !self.keeps_waiting();
        let Some(shut) = &mut self.closing else { return true };
        // Nobody of ours comes to the socket of others, whose door stays open.
        shut.looked(quiet) >= if self.ours { LOOKS } else { 1 }
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
            || self.sockets.keep_waiting(self.ours)
            || self.members.iter().any(|member| member.keeps_waiting())
    }

    /// A member that has taken nothing of what waits for it since the door was shut would keep that to the end, though others have
    /// nothing to do. With a short deadline it is not yet known to be stuck.
    pub(super) fn pass_over_still(&mut self) {
        let Some(shut) = &self.closing else { return };
        let is_still: Vec<bool> = self.members.iter().map(|member| shut.is_still(member)).collect();
        let mut others = self.members.iter().zip(&is_still);
        if others.any(|(member, is_still)| member.can_be_sent() && member.moves() && !is_still) {
            let still = self.members.iter_mut().zip(is_still).filter(|(_, is_still)| *is_still);
            still.for_each(|(member, _)| member.pass_over());
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
            self.sockets.each(&self.members, &mut |one| {
                // Without it the address is found taken.
                let _ = socket::set_reuse_port(one);
            });
        }
    }

    /// Gives the address up. Apart from drop, because a forked worker drops its copy of the handle.
    /// What it took a privilege to make is left, if it can serve another address.
    pub(crate) fn close(mut self, poll: &Poll) -> Option<Selector> {
        self.flow.drop_orphans();
        for member in self.members.iter_mut() {
            poll.remove(member.mailbox.sender());
            if let Some(own) = member.own_socket_mut() {
                own.forget(poll);
            }
        }
        self.sockets.forget(poll);
        if let Some(file) = &self.file {
            file.remove();
        }
        // Sockets of members are open in their workers, too, and still listen.
        if !self.members.is_empty() {
            return None;
        }
        if self.ours {
            let (datagram, inet) = (self.datagram, self.name.to_inet().is_some());
            // In every process that has it: a child of a worker's own may.
            self.sockets.route().each_socket(&mut |one| match (datagram, inet) {
                // Only the last copy's end frees the port, but who sends there is told that nobody reads.
                (true, _) => drop(door::bind_to_nowhere(one)),
                (false, true) => give_up(one),
                (false, false) => socket::stop_listening(one),
            });
        }
        self.sockets.close()
    }
}
