//! Where a handle's connections come from, in order, and when it may move them.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::member::Member;
use super::members::Members;
use super::sockets::Sockets;
use crate::mailbox::{Connection, Mailbox};
use crate::mechanism::{Accepted, Route};

/// The first and the longest pause after a shortage.
pub(super) const PAUSE: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(100));

/// Counters of a handle since it was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HandleStats {
    /// Connections that were accepted, or begun where the kernel gives them to the workers without the primary.
    pub accepted: u64,
    /// Connections taken back from a mailbox.
    pub reclaimed: u64,
    /// Connections that workers have handed back when they left.
    pub handed_back: u64,
}

/// How far down the sources are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Sources {
    /// What the primary has in its hands.
    InHand,
    /// And what somebody was given and has not taken.
    Given,
    /// And the kernel's queue.
    All,
}

#[derive(Default)]
pub(super) struct Flow {
    /// Connections that could not be sent, or that their taker did not want after all.
    unsent: VecDeque<Connection>,
    /// The mailboxes of members that are gone, with somebody in them.
    orphans: VecDeque<Mailbox>,
    paused_until: Option<Instant>,
    /// How long the last one was, if something has been short since.
    pause: Duration,
    stats: HandleStats,
}

impl Flow {
    /// The next connection of the first source that has one.
    pub(super) fn take(&mut self, from: Sources, members: &mut Members, sockets: &mut Sockets) -> Accepted {
        if let Some(connection) = self.unsent.pop_front() {
            return Accepted::Connection(connection);
        }
        if from == Sources::InHand {
            return Accepted::Nothing;
        }
        let mut given = self.take_from_orphans();
        given =
            given.or(|| Accepted::first(members.iter_mut().filter(|member| member.is_source()).map(Member::take_back)));
        given = given.or(|| sockets.retired_mut().take());
        self.stats.reclaimed += given.count();
        if from == Sources::Given {
            return given;
        }
        given.or(|| {
            let accepted = sockets.route_mut().accept();
            self.stats.accepted += accepted.count();
            accepted
        })
    }

    /// A route that is no more had given so many to workers.
    pub(super) fn count_begun(&mut self, count: u64) {
        self.stats.accepted += count;
    }

    /// Takes all that wait in the kernel. False: something was short.
    pub(super) fn take_all(&mut self, route: &mut dyn Route) -> bool {
        loop {
            match route.accept() {
                Accepted::Connection(connection) => {
                    self.stats.accepted += 1;
                    self.unsent.push_back(connection);
                }
                end => return matches!(end, Accepted::Nothing),
            }
        }
    }

    fn take_from_orphans(&mut self) -> Accepted {
        while let Some(orphan) = self.orphans.front_mut() {
            match orphan.take_back() {
                Ok(Some(connection)) => return Accepted::Connection(connection),
                Ok(None) => drop(self.orphans.pop_front()),
                Err(_) => return Accepted::Short,
            }
        }
        Accepted::Nothing
    }

    /// Connections that go to whoever can take one next.
    pub(super) fn keep(&mut self, connections: impl IntoIterator<Item = Connection>) {
        self.unsent.extend(connections);
    }

    /// One that comes first the next time.
    pub(super) fn keep_first(&mut self, connection: Connection) {
        self.unsent.push_front(connection);
    }

    /// Sends what was set aside for members, worker by worker, so that each is woken once. True when the kernel was short of something.
    pub(super) fn send_staged(&mut self, members: &mut Members) -> bool {
        members.iter_mut().fold(false, |short, member| member.send_staged(&mut self.unsent) | short)
    }

    /// One that its taker did not want after all.
    pub(super) fn put_back(&mut self, connection: Connection) {
        self.stats.reclaimed += 1;
        self.unsent.push_back(connection);
    }

    /// One that its worker has handed back.
    pub(super) fn hand_on(&mut self, connection: Connection) {
        self.stats.handed_back += 1;
        self.unsent.push_back(connection);
    }

    /// How many are in the primary's hands.
    pub(super) fn in_hand(&self) -> usize {
        self.unsent.len()
    }

    /// The mailbox of a member that is gone. An empty one is closed here; its listener takes nothing any more, so nothing can be missed.
    pub(super) fn inherit(&mut self, mut mailbox: Mailbox) {
        if mailbox.is_left_with_some() {
            self.orphans.push_back(mailbox);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.unsent.is_empty() && self.orphans.is_empty()
    }

    pub(super) fn has_unsent(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// Connections that are in nobody's mailbox.
    pub(super) fn unserved(&self) -> u64 {
        self.unsent.len() as u64 + self.orphans.iter().map(|orphan| u64::from(orphan.waiting())).sum::<u64>()
    }

    /// Something is short: nothing is moved for a while, which doubles.
    pub(super) fn pause(&mut self, now: Instant) {
        self.pause = (self.pause * 2).clamp(PAUSE.0, PAUSE.1);
        self.paused_until = Some(now + self.pause);
    }

    /// Until when nothing is moved, if that is not over.
    pub(super) fn paused_until(&mut self, now: Instant) -> Option<Instant> {
        self.paused_until = self.paused_until.filter(|until| now < *until);
        self.paused_until
    }

    /// Connections were moved and nothing was short.
    pub(super) fn has_moved(&mut self) {
        self.pause = Duration::ZERO;
    }

    /// `begun`: connections of which the primary has seen nothing.
    pub(super) fn stats(&self, begun: u64) -> HandleStats {
        HandleStats { accepted: self.stats.accepted + begun, ..self.stats }
    }

    /// Connections that nobody can get any more: a child of a worker's own may have a copy of the mailbox, in which they would stay open.
    pub(super) fn drop_orphans(&mut self) {
        self.orphans.iter_mut().for_each(Mailbox::empty);
        self.orphans.clear();
    }

    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn descriptors_most(&self) -> usize {
        2 * self.orphans.len() + self.unsent.len()
    }
}
