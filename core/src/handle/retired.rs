//! Queues in the kernel whose member is gone. They get no more turns, and go on listening for a while, as sources of the pump.
//!
//! A client whose handshake is in its last step at the moment in which its socket is shut down gets a reset, whatever the program
//! says (Linux 6.18: inet_csk_reqsk_queue_add meets a socket that does not listen, and drops the connection). So the socket is shut
//! down only when the handshakes have ended that had begun with it; the kernel moves what is left then.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::{Accepted, Queue};
use crate::sys::poll::{Interest, Poll};
use crate::token::Token;

/// For how long one goes on listening: more than a handshake lasts.
const GRACE: Duration = Duration::from_millis(100);
/// A worker that joins and leaves without end costs no more descriptors than this.
const MOST: usize = 32;

/// In the order in which they end.
#[derive(Default)]
pub(super) struct Retired {
    queues: VecDeque<(u32, Queue, Instant)>,
    /// When the next look is due, if one is.
    alarm: Option<Instant>,
}

impl Retired {
    /// Takes the queue of a slot. `Some`: the one that has to make room for it.
    pub(super) fn add(&mut self, slot: u32, mut queue: Queue, now: Instant) -> Option<(u32, Queue)> {
        queue.expect_some();
        self.queues.push_back((slot, queue, now + GRACE));
        if self.queues.len() > MOST { self.pop() } else { None }
    }

    fn pop(&mut self) -> Option<(u32, Queue)> {
        self.queues.pop_front().map(|(slot, queue, _)| (slot, queue))
    }

    /// One whose time is over, or that its worker spoiled.
    pub(super) fn take_over(&mut self, now: Instant) -> Option<(u32, Queue)> {
        let over = self.queues.iter().position(|(_, queue, until)| *until <= now || queue.is_spoiled())?;
        self.queues.remove(over).map(|(slot, queue, _)| (slot, queue))
    }

    /// That of a slot.
    pub(super) fn take_of(&mut self, slot: u32) -> Option<Queue> {
        let index = self.queues.iter().position(|(of, ..)| *of == slot)?;
        self.queues.remove(index).map(|(_, queue, _)| queue)
    }

    pub(super) fn queues(&self) -> impl Iterator<Item = &Queue> {
        self.queues.iter().map(|(_, queue, _)| queue)
    }

    pub(super) fn take_all(&mut self) -> impl Iterator<Item = (u32, Queue)> {
        std::mem::take(&mut self.queues).into_iter().map(|(slot, queue, _)| (slot, queue))
    }

    /// When to look again, if that has not been said yet.
    pub(super) fn take_alarm(&mut self, now: Instant) -> Option<Instant> {
        if self.alarm.is_some_and(|at| at > now) {
            return None;
        }
        self.alarm = self.queues.front().map(|(_, _, until)| *until);
        self.alarm
    }

    pub(super) fn has_some(&self) -> bool {
        self.queues.iter().any(|(_, queue, _)| queue.is_source(false))
    }

    /// The poll has told that something waits in one.
    pub(super) fn announced(&mut self) {
        self.queues.iter_mut().for_each(|(_, queue, _)| queue.expect_some());
    }

    /// The next connection of the first that has one.
    pub(super) fn take(&mut self) -> Accepted {
        for (_, queue, _) in self.queues.iter_mut().filter(|(_, queue, _)| queue.is_source(false)) {
            match queue.take() {
                Accepted::Nothing => {}
                accepted => return accepted,
            }
        }
        Accepted::Nothing
    }

    /// What the poll is to tell of them. `wanted`: somebody could serve what waits in them.
    pub(super) fn watch(&mut self, poll: &Poll, token: Token, wanted: bool) {
        let interest = if wanted { Interest::Readable } else { Interest::None };
        self.queues.iter_mut().for_each(|(_, queue, _)| queue.watch(poll, token, interest));
    }

    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn descriptors_most(&self) -> usize {
        self.queues.len()
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;
    use crate::sys::socket;

    fn queue() -> Queue {
        let socket = socket::open(libc::AF_INET, false).unwrap();
        socket::listen(socket.as_fd(), 8).unwrap();
        Queue::new(socket, 0)
    }

    #[test]
    fn one_goes_on_listening_for_longer_than_a_handshake_lasts() {
        let mut retired = Retired::default();
        let now = Instant::now();
        let at = |ms| now + Duration::from_millis(ms);
        assert!(retired.add(3, queue(), now).is_none());
        assert!(retired.add(3, queue(), at(30)).is_none());
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
            assert!(retired.add(slot, queue(), now).is_none());
        }
        assert_eq!(retired.add(99, queue(), now).map(|(slot, _)| slot), Some(0));
        assert_eq!(retired.queues().count(), MOST);
        assert!(retired.take_of(99).is_some() && retired.take_of(99).is_none());
    }
}
