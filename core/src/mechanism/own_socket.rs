//! A member's own socket: the listening socket of its slot. Its worker accepts from it, and the primary may in its stead. It also
//! tells whether the worker keeps up with what comes to it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use super::accepting::{Accepted, accept_one};
use super::look::{LOOK, Look, Watched};
use super::standstill::Standstill;
use crate::sys::poll::{Interest, Poll, Waited, wait_readable};
use crate::sys::{descriptor, socket};
use crate::token::Token;

/// Connections that a member may be given between two looks; more are a reason to look sooner.
const BETWEEN_LOOKS: u64 = 8;

/// How many of its turns a member has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turns {
    All,
    Half,
    None,
}

pub(crate) struct OwnSocket {
    socket: OwnedFd,
    /// Whose it is.
    worker: u32,
    /// What the poll was last told; `None`: it does not know the socket.
    watched: Option<(Token, Interest)>,
    /// Connections that were begun with the slot before it was this member's.
    assigned_before: u64,
    /// And before it was another's.
    assigned_after: Option<u64>,
    /// Those begun by the last look.
    assigned: u64,
    /// What the primary accepted in the worker's stead.
    rescued: u64,
    /// What waited at the last look.
    depth: u32,
    /// Fewer than all while much more waits here than with others.
    turns: Turns,
    /// Connections are coming in; if not, the poll tells when the next one does.
    busy: bool,
    /// Its worker has taken something from it, and so watches it; and had by the time from which on the poll does.
    used: bool,
    behind_worker: bool,
    /// The poll has told that a connection found the worker busy, and nobody has looked since.
    announced: bool,
    /// Connections that were begun since the poll was to tell, without being announced, and with the one that was.
    unannounced: u64,
    /// That one, and all others, had been taken by then: the last of so many.
    needless: Option<u64>,
    /// As far as is known, nothing is left to be rescued.
    drained: bool,
    moved_here: MovedHere,
    spoiled: bool,
    standstill: Standstill,
}

/// Whether the kernel may have moved connections here from a socket that was closed. Before 2026 it woke nobody for these (Linux
/// 5.14 to 6.19; `tests/c/kernel/test_kernel_unwoken.c`), so that a worker that has nothing to do does not learn of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MovedHere {
    No,
    Perhaps,
    /// They wait, and the worker sleeps.
    Unnoticed,
}

/// What a look at an own socket found.
pub(crate) enum Seen {
    /// The worker keeps up, as far as can be told.
    Moving(Watched),
    /// It sleeps in front of connections that it was not woken for.
    Unnoticed,
    /// It has stood still for too long.
    Stuck,
    /// Somebody shut the socket down, which only the worker can.
    Gone,
}

impl OwnSocket {
    /// `assigned`: connections that were begun with the slot before.
    pub(crate) fn new(socket: OwnedFd, assigned: u64) -> Self {
        Self {
            socket,
            worker: 0,
            watched: None,
            assigned_before: assigned,
            assigned_after: None,
            assigned,
            rescued: 0,
            depth: 0,
            turns: Turns::All,
            // Its worker may not have it yet, and comes first in the kernel's queue of those who are woken (`announced`).
            busy: true,
            used: false,
            behind_worker: false,
            announced: false,
            unannounced: 0,
            needless: None,
            drained: false,
            moved_here: MovedHere::No,
            spoiled: false,
            standstill: Standstill::default(),
        }
    }

    /// Gives it to a worker.
    pub(crate) fn belong_to(&mut self, worker: u32) {
        self.worker = worker;
    }

    /// Whose it is, or was last.
    pub(crate) fn worker(&self) -> u32 {
        self.worker
    }

    pub(crate) fn into_socket(self) -> OwnedFd {
        self.socket
    }

    /// What the worker gets a copy of.
    pub(crate) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Connections that nobody has accepted; `None` when the socket does not listen any more.
    pub(crate) fn waiting(&self) -> Option<u32> {
        socket::listening_backlog(self.socket.as_fd()).unwrap_or(None)
    }

    /// The slot's connections are this member's from here on.
    pub(crate) fn begin_with(&mut self, assigned: u64) {
        (self.assigned_before, self.assigned) = (assigned, assigned);
    }

    /// They are another's.
    pub(crate) fn end_with(&mut self, assigned: u64) {
        self.assigned_after = Some(assigned);
    }

    /// Connections the worker has been given, of so many that were begun with the slot.
    pub(crate) fn given(&self, assigned: u64) -> u64 {
        let assigned = self.assigned_after.unwrap_or(assigned);
        assigned.saturating_sub(self.assigned_before).saturating_sub(self.rescued)
    }

    pub(crate) fn is_busy(&self) -> bool {
        self.busy
    }

    /// What waited at the last look.
    pub(crate) fn depth(&self) -> u32 {
        if self.busy { self.depth } else { 0 }
    }

    /// Gives some of its turns to others while more than `slack` more connections wait here than where the least do. True if that
    /// changed how many it has.
    pub(crate) fn compare(&mut self, least: u32, slack: u32) -> bool {
        let turns = match self.depth() > least.saturating_add(slack) {
            false => Turns::All,
            // To take all turns from the longer of two busy sockets would only make the other one the longer.
            true if self.standstill.is_suspected() => Turns::None,
            true => Turns::Half,
        };
        std::mem::replace(&mut self.turns, turns) != turns
    }

    /// It has no turn now, so what waited at the last look says nothing about what will wait when it has one again.
    pub(crate) fn out_of_turn(&mut self) {
        self.depth = 0;
    }

    pub(crate) fn turns(&self) -> Turns {
        self.turns
    }

    /// Something may be left in it for others to serve. `has_turn`: its worker has its turns.
    pub(crate) fn is_source(&self, has_turn: bool) -> bool {
        !self.drained && (!has_turn || self.moved_here == MovedHere::Unnoticed)
    }

    /// Something may wait in it.
    pub(crate) fn expect_some(&mut self) {
        self.busy = true;
        self.drained = false;
    }

    /// Another socket has been closed, and the kernel may have moved here what waited in it.
    pub(crate) fn expect_moved(&mut self) {
        self.moved_here = MovedHere::Perhaps;
        self.expect_some();
    }

    /// Accepts in the worker's stead.
    pub(crate) fn take(&mut self) -> Accepted {
        let accepted = if self.may_accept() { accept_one(self.socket.as_fd()) } else { Accepted::Nothing };
        match accepted {
            Accepted::Connection(ref connection) => {
                self.rescued += 1;
                // It inherits what the worker has set on the socket.
                socket::do_not_linger(connection.socket.as_fd());
            }
            Accepted::Nothing => {
                self.drained = true;
                self.moved_here = MovedHere::No;
            }
            Accepted::Short => {}
        }
        accepted
    }

    /// True if something waits and accepting it cannot block the primary (rule R5). The worker shares the open file, and with it
    /// O_NONBLOCK; setting that again here would race with a worker that clears it again. The socket of such a worker is shut down
    /// instead, and the kernel moves what waits in it.
    fn may_accept(&mut self) -> bool {
        let socket = self.socket.as_fd();
        let there = wait_readable(&[socket], Some(Duration::ZERO)).is_ok_and(|waited| waited != Waited::TimedOut);
        if there && (!descriptor::is_nonblocking(socket).unwrap_or(false) || self.waiting().is_none()) {
            self.spoiled = true;
        }
        there && !self.spoiled
    }

    pub(crate) fn spoil(&mut self) {
        self.spoiled = true;
    }

    /// Its worker has made it useless: it no longer listens, or accepting from it could block the primary.
    pub(crate) fn is_spoiled(&self) -> bool {
        self.spoiled
    }

    /// Whether its worker takes what belongs to all; see `socket::is_reuse_port`. That is undone, and the socket is spoiled.
    pub(crate) fn catch_stealing(&mut self) -> bool {
        let socket = self.socket.as_fd();
        let stealing = socket::is_reuse_port(socket) == Ok(false);
        if stealing {
            let _ = socket::set_reuse_port(socket);
            self.spoil();
        }
        stealing
    }

    /// One look of the watch, while its worker has its turns. `assigned`: connections begun with the slot.
    pub(crate) fn look(&mut self, look: &Look, assigned: u64) -> Seen {
        if !self.busy {
            self.unannounced += assigned.saturating_sub(self.assigned);
            self.assigned = assigned;
            return Seen::Moving(Watched::default());
        }
        let waiting = match socket::listening_backlog(self.socket.as_fd()) {
            Ok(Some(waiting)) => waiting,
            Ok(None) => {
                self.spoil();
                return Seen::Gone;
            }
            // Not known for want of memory; the next look may know more.
            Err(_) => return Seen::Moving(Watched { again: Some(LOOK), changed: false }),
        };
        let fresh = assigned.saturating_sub(self.assigned);
        self.assigned = assigned;
        self.depth = waiting;
        if waiting == 0 {
            self.standstill = Standstill::default();
            self.moved_here = MovedHere::No;
            self.busy = fresh > 0 && !look.calm;
            self.used |= assigned > self.assigned_before + self.rescued;
            if std::mem::take(&mut self.announced) {
                self.needless = Some(self.unannounced);
            }
            self.unannounced = 0;
        } else if self.standstill.look(look, self.worker, assigned.saturating_sub(waiting.into())) {
            self.standstill = Standstill::default();
            self.drained = false;
            self.out_of_turn();
            return Seen::Stuck;
        } else if self.moved_here == MovedHere::Perhaps && self.standstill.is_asleep() {
            self.moved_here = MovedHere::Unnoticed;
            self.drained = false;
            return Seen::Unnoticed;
        }
        let mut next = look.interval.mul_f64(BETWEEN_LOOKS as f64 / fresh.max(1) as f64);
        // Whoever lets something wait may have just begun to stand still.
        if waiting > 0 {
            next = look.soon();
        }
        let again = self.busy.then_some(next.clamp(look.soon(), LOOK));
        // The poll takes over one that has become quiet, and has to be told.
        Seen::Moving(Watched { again, changed: !self.busy })
    }

    /// The last look showed that the poll need not have told of a connection, which was the last of so many.
    pub(crate) fn take_needless(&mut self) -> Option<u64> {
        self.needless.take()
    }

    /// Has the poll watch it, under a token that says whose it is.
    pub(crate) fn watch(&mut self, poll: &Poll, token: Token, interest: Interest) {
        if self.watched == Some((token, interest)) {
            return;
        }
        let is_exclusive = |interest| interest == Interest::ReadableByNobody;
        if is_exclusive(interest) || self.watched.is_some_and(|(_, before)| is_exclusive(before)) {
            self.forget(poll);
        }
        let told = match self.watched {
            None => poll.add(&self.socket, token.pack(), interest),
            Some(_) => poll.modify(&self.socket, token.pack(), interest),
        };
        if told.is_ok() {
            self.watched = Some((token, interest));
            self.behind_worker = self.used;
        } else {
            // Whatever entry there is, the next one is made anew.
            self.watched = None;
            poll.remove(&self.socket);
        }
    }

    /// An event has come; one that comes once does not come again. `assigned`: connections begun with the slot. Of those who watch for
    /// what finds nobody waiting the first is told. If that is the primary, because the worker came later, the worker has to be woken,
    /// and the primary stands behind it from the next time on.
    pub(crate) fn announced(&mut self, assigned: u64, poll: &Poll) {
        match &mut self.watched {
            Some((_, interest @ Interest::ReadableOnce)) => *interest = Interest::None,
            Some((_, Interest::ReadableByNobody)) => {
                self.forget(poll);
                self.announced = self.behind_worker;
                self.unannounced += assigned.saturating_sub(self.assigned);
                self.assigned = assigned;
                if self.waiting().is_some_and(|waiting| waiting > 0) {
                    socket::rouse(self.socket.as_fd());
                }
            }
            _ => {}
        }
        self.expect_some();
    }

    /// Something waits, of which the poll has not told.
    pub(crate) fn look_unannounced(&mut self) {
        if !self.busy && self.waiting().is_some_and(|waiting| waiting > 0) {
            socket::rouse(self.socket.as_fd());
            self.expect_some();
        }
    }

    /// Must come before it is dropped: the worker may have a copy.
    pub(crate) fn forget(&mut self, poll: &Poll) {
        if self.watched.take().is_some() {
            poll.remove(&self.socket);
        }
    }
}

#[cfg(test)]
mod tests;
