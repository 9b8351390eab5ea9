//! Own sockets whose member is gone. They get no more turns, and go on listening for a while, as sources of the pump.
//!
//! If a socket is shut down while a client is in the last step of its handshake, that client gets a reset, whatever the program in
//! the kernel says (Linux 6.18: inet_csk_reqsk_queue_add meets a socket that does not listen, and drops the connection). So the
//! handshakes that began with the socket are given time to end. Then it is shut down, and the kernel moves what is left.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::accepting::Accepted;
use super::own_socket::OwnSocket;
use crate::sys::poll::{Interest, Poll};
use crate::token::Token;

/// For how long one goes on listening: more than a handshake lasts.
const GRACE: Duration = Duration::from_millis(100);
/// However often a worker joins and leaves, it costs no more descriptors than this.
const MOST: usize = 32;

/// In the order in which they end.
#[derive(Default)]
pub(crate) struct Retired {
    sockets: VecDeque<(u32, OwnSocket, Instant)>,
    /// When the next look is due, if one is.
    alarm: Option<Instant>,
}

impl Retired {
    /// Takes the own socket of a slot. `Some`: the one that has to make room for it.
    pub(crate) fn add(&mut self, slot: u32, mut own: OwnSocket, now: Instant) -> Option<(u32, OwnSocket)> {
        own.expect_some();
        self.sockets.push_back((slot, own, now + GRACE));
        if self.sockets.len() > MOST { self.pop() } else { None }
    }

    fn pop(&mut self) -> Option<(u32, OwnSocket)> {
        self.sockets.pop_front().map(|(slot, own, _)| (slot, own))
    }

    /// One whose time is over, or that its worker spoiled.
    pub(crate) fn take_over(&mut self, now: Instant) -> Option<(u32, OwnSocket)> {
        let over = self.sockets.iter().position(|(_, own, until)| *until <= now || own.is_spoiled())?;
        self.sockets.remove(over).map(|(slot, own, _)| (slot, own))
    }

    /// That of a slot.
    pub(crate) fn take_of(&mut self, slot: u32) -> Option<OwnSocket> {
        let index = self.sockets.iter().position(|(of, ..)| *of == slot)?;
        self.sockets.remove(index).map(|(_, own, _)| own)
    }

    pub(crate) fn sockets(&self) -> impl Iterator<Item = &OwnSocket> {
        self.sockets.iter().map(|(_, own, _)| own)
    }

    pub(crate) fn take_all(&mut self) -> impl Iterator<Item = (u32, OwnSocket)> {
        std::mem::take(&mut self.sockets).into_iter().map(|(slot, own, _)| (slot, own))
    }

    /// When to look again, if that has not been said yet.
    pub(crate) fn take_alarm(&mut self, now: Instant) -> Option<Instant> {
        if self.alarm.is_some_and(|at| at > now) {
            return None;
        }
        self.alarm = self.sockets.front().map(|(_, _, until)| *until);
        self.alarm
    }

    pub(crate) fn has_some(&self) -> bool {
        self.sockets.iter().any(|(_, own, _)| own.is_source(false))
    }

    /// The poll has told that something waits in one.
    pub(crate) fn announced(&mut self) {
        self.sockets.iter_mut().for_each(|(_, own, _)| own.expect_some());
    }

    /// The next connection of the first that has one.
    pub(crate) fn take(&mut self) -> Accepted {
        let sources = self.sockets.iter_mut().map(|(_, own, _)| own).filter(|own| own.is_source(false));
        Accepted::first(sources.map(OwnSocket::take))
    }

    /// What the poll is to tell of them. `wanted`: somebody could serve what waits in them.
    pub(crate) fn watch(&mut self, poll: &Poll, token: Token, wanted: bool) {
        let interest = if wanted { Interest::Readable } else { Interest::None };
        self.sockets.iter_mut().for_each(|(_, own, _)| own.watch(poll, token, interest));
    }

    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn descriptors_most(&self) -> usize {
        self.sockets.len()
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;
    use crate::sys::socket;

    fn own() -> OwnSocket {
        let socket = socket::open(libc::AF_INET, false).unwrap();
        socket::listen(socket.as_fd(), 8).unwrap();
        OwnSocket::new(socket, 0)
    }

    #[test]
    fn one_goes_on_listening_for_longer_than_a_handshake_lasts() {
        let mut retired = Retired::default();
        let now = Instant::now();
        let at = |ms| now + Duration::from_millis(ms);
        assert!(retired.add(3, own(), now).is_none());
        assert!(retired.add(3, own(), at(30)).is_none());
        // A second SYN comes after 1 s, so it is not the slow network that is waited for, but one that is not broken.
        assert!(retired.take_over(at(50)).is_none());
        let alarm = retired.take_alarm(at(50)).unwrap();
        assert!(alarm > at(50) && alarm <= at(500));
        assert_eq!(retired.take_alarm(at(50)), None, "said already");
        assert!(retired.take_over(alarm).is_some_and(|(slot, _)| slot == 3));
        assert!(retired.take_over(alarm).is_none(), "the other came later");
        assert_eq!(retired.take_alarm(alarm), Some(alarm + Duration::from_millis(30)));
    }

    #[test]
    fn there_are_not_too_many_and_the_oldest_makes_room() {
        let mut retired = Retired::default();
        let now = Instant::now();
        for slot in 0..MOST as u32 {
            assert!(retired.add(slot, own(), now).is_none());
        }
        assert_eq!(retired.add(99, own(), now).map(|(slot, _)| slot), Some(0));
        assert_eq!(retired.sockets().count(), MOST);
        assert!(retired.take_of(99).is_some() && retired.take_of(99).is_none());
    }
}
