//! One listener of one worker, seen from the handle: its mailbox, its own socket if it has one, and whether it gets connections.

mod looking;
mod proving;

use std::time::Instant;

use super::pace::Pace;
use super::standing::Standing;
use crate::channel::pending;
use crate::mailbox::{Connection, Mailbox};
use crate::mechanism::{Accepted, OwnSocket};
use crate::policy::{Burden, Load, Told};
use crate::sys::Sys;
use crate::sys::poll::{Interest, Poll};
use crate::token::Token;

pub(crate) struct Member {
    pub(crate) listener: u32,
    pub(crate) worker: u32,
    pub(crate) slot: u32,
    pub(crate) mailbox: Mailbox,
    standing: Standing,
    stopping: bool,
    /// It is to take another's place, and gets nothing before it does.
    proving: bool,
    /// Connections sent into its mailbox and not taken back.
    passed: u64,
    pace: Pace,
    /// The poll is to tell when there is room in the mailbox.
    armed: bool,
    own: Option<OwnSocket>,
    line: Line,
    load: Load,
}

/// The line of those who accept from a socket that all have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    /// It has no socket.
    Barred,
    /// It could.
    Beside,
    /// It accepts by itself, and its mailbox is empty.
    Within,
}

impl Member {
    /// `window_most`: what the mailbox's window may grow to.
    pub(crate) fn new(listener: u32, worker: u32, slot: u32, mailbox: Mailbox, window_most: u32) -> Self {
        let pace = Pace::new(mailbox.window(), window_most);
        Self {
            listener,
            worker,
            slot,
            mailbox,
            standing: Standing::OPEN,
            stopping: false,
            proving: false,
            passed: 0,
            pace,
            armed: false,
            own: None,
            line: Line::Barred,
            load: Load::default(),
        }
    }

    pub(super) fn give_own_socket(&mut self, mut own: OwnSocket) {
        own.belong_to(self.worker);
        self.own = Some(own);
    }

    /// It is to have the socket that all have.
    pub(crate) fn allow_line(&mut self) {
        self.line = Line::Beside;
    }

    pub(super) fn may_stand_in_line(&self) -> bool {
        self.line != Line::Barred && !self.proving
    }

    pub(super) fn is_in_line(&self) -> bool {
        self.line == Line::Within
    }

    pub(super) fn stand_in_line(&mut self) {
        if self.may_stand_in_line() {
            self.line = Line::Within;
        }
    }

    /// From here on its mailbox serves it. True if it did not before.
    pub(super) fn leave_line(&mut self) -> bool {
        let was_within = self.is_in_line();
        if was_within {
            self.line = Line::Beside;
        }
        was_within
    }

    /// Connections come to it without the primary.
    pub(super) fn accepts_by_itself(&self) -> bool {
        self.own.is_some() || self.is_in_line()
    }

    pub(super) fn own_socket(&self) -> Option<&OwnSocket> {
        self.own.as_ref()
    }

    pub(super) fn own_socket_mut(&mut self) -> Option<&mut OwnSocket> {
        self.own.as_mut()
    }

    /// Takes its own socket away. `assigned`, here and below: connections begun with its slot's.
    pub(super) fn take_own_socket(&mut self, assigned: u64, poll: &Poll) -> Option<OwnSocket> {
        self.passed = self.given(assigned).saturating_sub(self.waiting_at_own().into());
        let mut own = self.own.take()?;
        own.forget(poll);
        Some(own)
    }

    /// It gets connections; perhaps not now, for want of room.
    pub(super) fn has_turn(&self) -> bool {
        self.standing.is_open() && !self.stopping && !self.proving
    }

    /// Its mailbox is not closed, neither by its worker nor by a stop.
    pub(super) fn can_be_sent(&self) -> bool {
        !self.stopping && !self.proving && !self.standing.is_broken()
    }

    /// It gets connections by its mailbox, which has room. `given`: those that were somebody's already; a member in line accepts others
    /// by itself.
    pub(super) fn is_open(&mut self, given: bool) -> bool {
        self.has_turn() && (given || !self.is_in_line()) && self.mailbox.room() > 0
    }

    /// Its worker has not stood still of late.
    pub(super) fn moves(&self) -> bool {
        self.standing.is_open()
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping
    }

    /// A turn begins, in which connections are given by load.
    pub(super) fn look_at_load(&mut self, now: Instant) {
        let told = self.mailbox.board.load();
        self.load.look(Told { load: told.load, reports: told.reports }, self.mailbox.waiting(), now);
    }

    pub(super) fn burden(&self) -> Burden {
        self.load.burden()
    }

    /// As if it had never been given anything.
    #[cfg(test)]
    pub(super) fn forget_load(&mut self) {
        self.load = Load::default();
    }

    /// Connections given to it and not taken back.
    pub(super) fn given(&self, assigned: u64) -> u64 {
        self.passed + self.own.as_ref().map_or(0, |own| own.given(assigned))
    }

    /// Of those, what its worker has not taken.
    pub(super) fn waiting(&self) -> u32 {
        self.mailbox.waiting().saturating_add(self.waiting_at_own())
    }

    fn waiting_at_own(&self) -> u32 {
        self.own.as_ref().and_then(OwnSocket::waiting).unwrap_or(0)
    }

    /// Of those, what its worker has taken.
    pub(super) fn taken(&self, assigned: u64) -> u64 {
        self.given(assigned).saturating_sub(self.waiting().into())
    }

    /// What shows that its worker takes: out of the mailbox, and by its own count.
    pub(super) fn signs_of_taking(&self) -> (u64, u64) {
        (self.mailbox.taken(), self.mailbox.board.taken())
    }

    /// Somebody waits here to be served. In a mailbox that was emptied for others is only what shows that its worker is back.
    pub(super) fn keeps_waiting(&self) -> bool {
        self.waiting_at_own() > 0 || (!self.standing.is_drained() && self.mailbox.clients_waiting() > 0)
    }

    /// What waits for it can be taken back.
    pub(super) fn is_source(&self) -> bool {
        self.standing.is_source() || self.own.as_ref().is_some_and(|own| own.is_source(self.has_turn()))
    }

    /// What the poll is to tell of its own socket: `quiet` where nothing is known to wait. `wanted`: somebody else could serve what waits.
    pub(super) fn watch_own_socket(&mut self, poll: &Poll, quiet: Interest, wanted: bool) {
        let (has_turn, token) = (self.has_turn(), Token::OwnSocket(self.listener));
        if let Some(own) = &mut self.own {
            let interest = match (has_turn, own.is_busy()) {
                (true, false) => quiet,
                (false, _) if wanted => Interest::Readable,
                _ => Interest::None,
            };
            own.watch(poll, token, interest);
        }
    }

    pub(super) fn expect_some(&mut self) {
        if let Some(own) = &mut self.own {
            own.expect_some();
        }
    }

    /// Sets a connection aside, to be sent at the end of the turn.
    pub(super) fn stage(&mut self, connection: Connection) {
        self.mailbox.stage(connection);
        self.load.give();
    }

    /// Sends what was set aside. What cannot be sent goes to `unsent`. True when the kernel was short of something.
    pub(super) fn send_staged(&mut self, unsent: &mut impl Extend<Connection>) -> bool {
        let mut short = false;
        while let Some(connection) = self.mailbox.next_staged() {
            if let Err(errno) = self.send(&connection) {
                short |= pending(errno).is_some();
                unsent.extend([connection]);
            }
        }
        short
    }

    fn send(&mut self, connection: &Connection) -> Sys<()> {
        let outcome = self.mailbox.send(connection);
        match outcome {
            Ok(()) => self.passed += 1,
            Err(errno) if pending(errno).is_some() => {}
            Err(_) => self.standing = Standing::BROKEN,
        }
        outcome
    }

    /// The same beyond the window, as far as the system lets.
    pub(super) fn send_beyond_window(&mut self, connection: &Connection) -> Sys<()> {
        self.mailbox.make_room(1);
        self.send(connection)
    }

    /// The oldest connection that its worker has not taken; `Nothing` once there is none, and then a NOP is left in the mailbox to
    /// show when the worker is back.
    pub(super) fn take_back(&mut self) -> Accepted {
        // A stopping worker finds its last parcels in its mailbox; what waits in the kernel, anybody may serve.
        if !self.standing.is_open() {
            match self.mailbox.take_back() {
                Ok(Some(connection)) => {
                    self.passed = self.passed.saturating_sub(1);
                    return Accepted::Connection(connection);
                }
                Ok(None) => {}
                Err(_) => return Accepted::Short,
            }
        }
        self.own.as_mut().map_or(Accepted::Nothing, OwnSocket::take).or(|| {
            self.standing = self.standing.drained();
            self.ask_whether_back();
            Accepted::Nothing
        })
    }

    /// An empty mailbox would never show that its worker is back. The primary empties it itself, and takes back its own NOP before what
    /// waits in the own socket, so this is checked after each turn.
    fn ask_whether_back(&mut self) {
        if self.shows_nothing()
            && let Err(errno) = self.mailbox.send_nop()
            && pending(errno).is_none()
        {
            self.standing = Standing::BROKEN.drained();
        }
    }

    /// It is stuck, and nothing is in its mailbox, nor was taken out of it by its worker.
    fn shows_nothing(&self) -> bool {
        let stuck = !self.stopping && self.standing.is_stuck();
        stuck && self.mailbox.waiting() == 0 && self.standing.stands_still(self.mailbox.taken())
    }

    /// Its worker takes nothing until it says so again.
    pub(super) fn pause(&mut self, poll: &Poll) {
        if let Some(paused) = self.standing.paused() {
            self.standing = paused;
            self.expect_some();
            self.arm(false, poll);
        }
    }

    /// Its worker takes again.
    pub(super) fn resume(&mut self, poll: &Poll) {
        let Some(resumed) = self.standing.resumed(self.mailbox.taken()) else { return };
        self.standing = resumed;
        if !resumed.is_open() {
            self.watch_for_return(poll);
            return;
        }
        if self.mailbox.waiting() == 0 {
            self.pace.forget();
        }
        self.expect_some();
    }

    /// No more connections.
    pub(super) fn lose_turns(&mut self) {
        self.stopping = true;
        self.expect_some();
    }

    /// Asks for an event when there is room again. True when there is room already.
    pub(super) fn tell_when_room(&mut self, poll: &Poll, given: bool, now: Instant) -> bool {
        if self.is_open(given) {
            return true;
        }
        if self.has_turn() && (given || !self.is_in_line()) {
            // Room that appears before this call makes the event at once.
            self.arm(true, poll);
            self.pace.is_full(now);
        }
        false
    }

    /// The event came: its worker has taken something.
    pub(super) fn moved(&mut self, poll: &Poll) {
        self.look_whether_back(poll);
        // A small window is full while the socket still counts as writable: such an event comes too early, and the next
        // one, an edge, when something is taken.
        if self.standing.is_open() && self.mailbox.room() > 0 {
            self.arm(false, poll);
            self.pace.has_room(&mut self.mailbox);
        }
    }

    /// Something waits and may have to be taken back.
    pub(super) fn wants_watch(&self) -> bool {
        let own = self.has_turn() && self.own.as_ref().is_some_and(OwnSocket::is_busy);
        own || self.mailbox_wants_watch()
    }

    fn get_stuck(&mut self) {
        self.standing = Standing::stuck(self.mailbox.taken());
    }

    /// What waits for it goes to others, as if it were known to be stuck.
    pub(super) fn pass_over(&mut self) {
        if self.has_turn() {
            self.get_stuck();
            self.expect_some();
        }
    }

    /// A stuck member comes back only by an event. This makes up for an event that could not be asked for, and for a NOP that the
    /// primary took back itself.
    pub(super) fn watch_for_return(&mut self, poll: &Poll) {
        if self.standing.is_stuck() {
            self.arm(true, poll);
            self.ask_whether_back();
        }
    }

    /// Only what its worker has taken shows that it is back: the primary may have emptied the mailbox.
    fn look_whether_back(&mut self, poll: &Poll) {
        if self.standing.is_stuck() && !self.standing.stands_still(self.mailbox.taken()) {
            self.standing = Standing::OPEN;
            self.pace.forget();
            self.arm(false, poll);
            self.expect_some();
        }
    }

    fn arm(&mut self, wanted: bool, poll: &Poll) {
        if self.armed != wanted {
            let interest = if wanted { Interest::RoomAppears } else { Interest::None };
            if poll.modify(self.mailbox.sender(), Token::Mailbox(self.listener).pack(), interest).is_ok() {
                self.armed = wanted;
            }
        }
    }
}
