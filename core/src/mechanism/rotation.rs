//! The mechanism `rotation`: all workers of an address accept from its one socket, each in its turn.
//!
//! Each waits for it in an epoll of its own, exclusively. The kernel wakes the first in the line of those who wait and sleep (the order
//! in which they were added). Whoever has taken a connection is added anew, and so stands at the end; whoever has had fewer than its
//! part (`Tally`) stays in front. A worker that computes or was stopped does not sleep there, and so is passed over.
//!
//! The primary stands in the same line for members that are served by their mailbox alone.

use std::os::fd::BorrowedFd;

use super::accepting::{Accepted, accept_one, is_left_waiting};
use super::route::{Found, Route};
use super::shared::Shared;
use crate::options::SocketOption;
use crate::settings::MechanismKind;
use crate::sys::{Sys, descriptor, socket};
use crate::tally::{Part, Tally};

pub(crate) struct Rotation {
    shared: Shared,
    tally: Tally,
    part: Part,
    /// How many members the primary stands for.
    stands_for: u32,
    /// It stands for all.
    alone: bool,
    /// What it has taken for them.
    taken: u64,
    /// A connection is there, and it is the primary's turn.
    announced: bool,
    /// It has had its part, and is to stand at the end.
    had_its_part: bool,
    /// Nobody new comes.
    shut: bool,
}

impl Rotation {
    /// An error: there is no memory to be shared.
    pub(crate) fn tally() -> Sys<(Tally, Part)> {
        let tally = Tally::new()?;
        let part = tally.own_part()?;
        Ok((tally, part))
    }

    pub(crate) fn new(shared: Shared, (tally, part): (Tally, Part)) -> Self {
        Self {
            shared,
            tally,
            part,
            stands_for: 0,
            alone: false,
            taken: 0,
            announced: false,
            had_its_part: false,
            shut: false,
        }
    }
}

impl Route for Rotation {
    fn kind(&self) -> MechanismKind {
        MechanismKind::Rotation
    }

    fn worker_socket(&self, slot: u32) -> Option<BorrowedFd<'_>> {
        self.shared.worker_socket(slot)
    }

    fn worker_page(&self) -> Option<BorrowedFd<'_>> {
        Some(self.tally.file())
    }

    fn primary_socket(&self) -> Option<BorrowedFd<'_>> {
        self.shared.worker_socket(0)
    }

    fn is_in_line(&self) -> bool {
        true
    }

    fn take_had_its_part(&mut self) -> bool {
        std::mem::take(&mut self.had_its_part)
    }

    fn announced(&mut self) {
        self.announced = true;
    }

    fn accept(&mut self) -> Accepted {
        if self.shut {
            return self.shared.accept();
        }
        // One in a turn, as everybody, if there is anybody else. The open file is the workers', too, and one may have made it wait.
        let socket = self.shared.socket();
        let there = std::mem::take(&mut self.announced) || self.alone && is_left_waiting(socket);
        if !there || descriptor::is_nonblocking(socket) != Ok(true) {
            return Accepted::Nothing;
        }
        let accepted = accept_one(socket);
        if accepted.count() > 0 {
            self.taken += 1;
            self.had_its_part |= self.part.took(self.stands_for) && !self.alone;
        }
        accepted
    }

    fn set_turns(&mut self, turns: &mut dyn Iterator<Item = Option<u32>>) {
        let (mut parts, mut stands_for) = (0, 0);
        for turn in turns {
            parts += 1;
            stands_for += u32::from(turn.is_none());
        }
        (self.stands_for, self.alone) = (stands_for, stands_for == parts);
        self.tally.share_among(parts);
    }

    fn begun(&self) -> u64 {
        // The flow counts what the primary takes.
        self.tally.taken().saturating_sub(self.taken)
    }

    fn has_unroused(&self) -> bool {
        is_left_waiting(self.shared.socket())
    }

    fn rouse(&self) {
        socket::rouse(self.shared.socket());
    }

    fn set_option(&mut self, option: &SocketOption) -> Sys<usize> {
        self.shared.set_option(option)
    }

    fn each_socket(&self, see: &mut dyn FnMut(BorrowedFd<'_>)) {
        self.shared.each_socket(see);
    }

    fn accept_last(&mut self) {
        self.shut = true;
        self.shared.accept_last();
    }

    fn has_waiting(&self) -> bool {
        self.shared.has_waiting()
    }

    fn each_common(&self, see: &mut dyn FnMut(BorrowedFd<'_>)) {
        self.shared.each_common(see);
    }

    fn is_common(&self) -> bool {
        self.shared.is_common()
    }

    fn counts(&self) -> bool {
        true
    }

    fn audit(&mut self) -> Found {
        self.shared.audit()
    }

    #[cfg(any(test, feature = "fuzzing"))]
    fn descriptors_most(&self) -> usize {
        2
    }
}
