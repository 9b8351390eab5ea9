//! One listener of one worker, seen from the handle: its mailbox, its queue in the kernel if it has one, and whether it
//! gets connections.

use std::time::{Duration, Instant};

use nix::errno::Errno;

use crate::channel::pending;
use crate::mailbox::{Connection, Mailbox, TakenBack};
use crate::mechanism::{Accepted, LOOK, Look, OwnSocket, Seen, Turns, Watched};
use crate::policy::{Burden, Load, Told};
use crate::sys::Sys;
use crate::sys::poll::{Interest, Poll};
use crate::token::Token;

/// For how long a mailbox stands still until its member is stuck. Longer than an interval of the watch, because on a busy
/// machine a healthy worker may well not run for one.
const STUCK: Duration = Duration::from_millis(60);
/// A worker that makes room in a full mailbox within the first of these keeps up, and its window may grow; one that needs
/// the second has fallen behind, and what waits behind it could be served by a neighbour.
const PACE: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(5));

/// No count of connections.
const NOTHING: u64 = u64::MAX;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    /// In the rotation.
    Open,
    /// Its queue did not fall; others are served, and what waits is taken back as far as others have room.
    Stuck { taken: u64, drained: bool },
    /// Its worker has said that it takes nothing for now. What waits is taken back. `stuck`: it was, when so many were taken.
    Paused { drained: bool, stuck: Option<u64> },
    /// Its end of the mailbox was shut down. What waits is taken back; nothing is sent any more.
    Broken { drained: bool },
}

pub(crate) struct Member {
    pub(crate) listener: u32,
    pub(crate) worker: u32,
    pub(crate) slot: u32,
    pub(crate) mailbox: Mailbox,
    flow: Flow,
    stopping: bool,
    staged: Vec<Connection>,
    passed: u64,
    /// How much had been taken at the last look, while something waited (`NOTHING` if it did not), and the evidence since
    /// it was that much.
    seen: u64,
    standing: Duration,
    armed: bool,
    /// The least window and the most; see `PACE`.
    windows: (u32, u32),
    full_since: Option<Instant>,
    queue: Option<OwnSocket>,
    load: Load,
}

impl Member {
    /// `window_most`: what the mailbox's window may grow to.
    pub(crate) fn new(listener: u32, worker: u32, slot: u32, mailbox: Mailbox, window_most: u32) -> Self {
        let windows = (mailbox.window(), window_most);
        Self {
            listener,
            worker,
            slot,
            mailbox,
            flow: Flow::Open,
            stopping: false,
            staged: Vec::new(),
            passed: 0,
            seen: NOTHING,
            standing: Duration::ZERO,
            armed: false,
            windows,
            full_since: None,
            queue: None,
            load: Load::default(),
        }
    }

    /// Gives it a queue in the kernel.
    pub(crate) fn seat(&mut self, mut queue: OwnSocket) {
        queue.belong_to(self.worker);
        self.queue = Some(queue);
    }

    /// Its queue in the kernel.
    pub(crate) fn queue(&self) -> Option<&OwnSocket> {
        self.queue.as_ref()
    }

    /// What waited in its queue at the last look; `None` for one without a queue, or without a turn.
    pub(crate) fn depth(&self) -> Option<u32> {
        self.queue.as_ref().filter(|_| self.has_turn()).map(OwnSocket::depth)
    }

    /// Gives its turns to others, or takes them back; see `OwnSocket::compare`.
    pub(crate) fn compare(&mut self, least: u32, slack: u32) -> bool {
        self.queue.as_mut().is_some_and(|queue| queue.compare(least, slack))
    }

    /// How many of its turns in the kernel it has for now.
    pub(crate) fn turns(&self) -> Turns {
        self.queue.as_ref().map_or(Turns::All, OwnSocket::turns)
    }

    /// Takes its queue away.
    pub(crate) fn take_queue(&mut self, poll: &Poll) -> Option<OwnSocket> {
        if let Some(queue) = &mut self.queue {
            queue.forget(poll);
        }
        self.queue.take()
    }

    /// The same for one that stays and is served by its mailbox alone from now on.
    pub(crate) fn unseat(&mut self, assigned: u64, poll: &Poll) -> Option<OwnSocket> {
        let waiting = self.queue.as_ref().and_then(OwnSocket::waiting).unwrap_or(0);
        self.passed = self.given(assigned).saturating_sub(waiting.into());
        self.take_queue(poll)
    }

    /// It gets connections; perhaps not now, for want of room.
    pub(crate) fn has_turn(&self) -> bool {
        self.flow == Flow::Open && !self.stopping
    }

    /// Its mailbox is not closed, neither by its worker nor by a stop.
    pub(crate) fn can_be_sent(&self) -> bool {
        !self.stopping && !matches!(self.flow, Flow::Broken { .. })
    }

    /// In the rotation, with room.
    pub(crate) fn is_open(&mut self) -> bool {
        self.has_turn() && self.mailbox.room() > 0
    }

    /// A turn begins, in which connections are given by load.
    pub(crate) fn look_at_load(&mut self, now: Instant) {
        let told = self.mailbox.board.load();
        self.load.look(Told { load: told.load, reports: told.reports }, self.mailbox.waiting(), now);
    }

    pub(crate) fn burden(&self) -> Burden {
        self.load.burden()
    }

    /// As if it had never been given anything, and had told nothing.
    #[cfg(test)]
    pub(crate) fn forget_load(&mut self) {
        self.load = Load::default();
    }

    /// Connections given to it and not taken back. `assigned`: those begun with its slot.
    pub(crate) fn given(&self, assigned: u64) -> u64 {
        self.passed + self.queue.as_ref().map_or(0, |queue| queue.given(assigned))
    }

    /// Of those, what its worker has not taken.
    pub(crate) fn waiting(&self) -> u32 {
        let queue = self.queue.as_ref().and_then(OwnSocket::waiting).unwrap_or(0);
        self.mailbox.waiting().saturating_add(queue)
    }

    /// Somebody waits here to be served. One whose queue stood still and was emptied for others has only what shows that it is back.
    pub(crate) fn keeps_waiting(&self) -> bool {
        let emptied = matches!(
            self.flow,
            Flow::Stuck { drained: true, .. } | Flow::Paused { drained: true, .. } | Flow::Broken { drained: true }
        );
        let queued = self.queue.as_ref().and_then(OwnSocket::waiting).unwrap_or(0);
        queued > 0 || (!emptied && self.mailbox.waiting_before_stop() > 0)
    }

    /// Its worker has not stood still of late.
    pub(crate) fn moves(&self) -> bool {
        self.flow == Flow::Open
    }

    /// Of those, what its worker has taken.
    pub(crate) fn delivered(&self, assigned: u64) -> u64 {
        self.given(assigned).saturating_sub(self.waiting().into())
    }

    /// Its queues can be taken from.
    pub(crate) fn is_source(&self) -> bool {
        let mailbox = matches!(
            self.flow,
            Flow::Stuck { drained: false, .. } | Flow::Paused { drained: false, .. } | Flow::Broken { drained: false }
        );
        mailbox || self.queue.as_ref().is_some_and(|queue| queue.is_source(self.has_turn()))
    }

    /// What the poll is to tell of its queue. `wanted`: somebody else could serve what waits in it.
    pub(crate) fn watch_queue(&mut self, poll: &Poll, wanted: bool) {
        let (has_turn, token) = (self.has_turn(), Token::Queue(self.listener));
        if let Some(queue) = &mut self.queue {
            let interest = match (has_turn, queue.is_busy()) {
                (true, false) => Interest::ReadableOnce,
                (false, _) if wanted => Interest::Readable,
                _ => Interest::None,
            };
            queue.watch(poll, token, interest);
        }
    }

    /// The poll has told of its queue.
    pub(crate) fn queue_announced(&mut self) {
        if let Some(queue) = &mut self.queue {
            queue.announced();
        }
    }

    fn expect_some(&mut self) {
        if let Some(queue) = &mut self.queue {
            queue.expect_some();
        }
    }

    /// Whether its worker takes through its queue what belongs to all; see `OwnSocket::catch_stealing`.
    pub(crate) fn catch_stealing(&mut self) -> bool {
        self.queue.as_mut().is_some_and(OwnSocket::catch_stealing)
    }

    /// Its worker did with its queue what it should not.
    #[cfg(test)]
    pub(crate) fn spoil_queue(&mut self) {
        if let Some(queue) = &mut self.queue {
            queue.spoil();
        }
    }

    /// Another member's queue has been closed; what waited in it may have come here.
    pub(crate) fn expect_moved(&mut self) {
        if let Some(queue) = &mut self.queue {
            queue.expect_moved();
        }
    }

    pub(crate) fn stage(&mut self, connection: Connection) {
        self.mailbox.reserve();
        self.load.give();
        self.staged.push(connection);
    }

    pub(crate) fn take_staged(&mut self) -> Vec<Connection> {
        std::mem::take(&mut self.staged)
    }

    /// For the fuzzer and the tests.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn has_nothing_staged(&self) -> bool {
        self.staged.is_empty() && self.mailbox.has_nothing_reserved()
    }

    /// Takes the emptied list back, for its memory.
    pub(crate) fn keep_memory(&mut self, emptied: Vec<Connection>) {
        self.staged = emptied;
    }

    pub(crate) fn send(&mut self, connection: &Connection) -> Sys<()> {
        let outcome = self.mailbox.send(connection);
        match outcome {
            Ok(()) => self.passed += 1,
            Err(errno) if pending(errno).is_some() => {}
            Err(_) => self.flow = Flow::Broken { drained: false },
        }
        outcome
    }

    /// The oldest connection its worker has not received; `Nothing` once there is none, and then a NOP is left in the
    /// mailbox to show when the worker is back.
    pub(crate) fn take_back(&mut self) -> Accepted {
        // A stopping worker finds its last parcels in its mailbox; what waits in the kernel, anybody may serve.
        if self.flow != Flow::Open {
            match self.mailbox.take_back() {
                Ok(TakenBack::Connection(connection)) => {
                    self.passed = self.passed.saturating_sub(1);
                    return Accepted::Connection(connection);
                }
                Ok(TakenBack::Empty) => {}
                Err(_) => return Accepted::Short,
            }
        }
        match self.queue.as_mut().map_or(Accepted::Nothing, OwnSocket::take) {
            Accepted::Nothing => {}
            accepted => return accepted,
        }
        self.is_empty();
        Accepted::Nothing
    }

    /// Nothing is left to be taken back.
    fn is_empty(&mut self) {
        match &mut self.flow {
            Flow::Stuck { drained, .. } | Flow::Paused { drained, .. } | Flow::Broken { drained } => *drained = true,
            Flow::Open => {}
        }
        self.ask_whether_back();
    }

    /// A mailbox out of which nothing can be taken would never show that its worker is back. The primary empties it itself, and takes
    /// its own NOP back before what waits in the queue; so this is looked at after each turn.
    fn ask_whether_back(&mut self) {
        if self.shows_nothing()
            && let Err(errno) = self.mailbox.send_nop()
            && pending(errno).is_none()
        {
            self.flow = Flow::Broken { drained: true };
        }
    }

    /// It is stuck, and nothing is in its mailbox, nor was taken out of it by its worker.
    fn shows_nothing(&self) -> bool {
        matches!(self.flow, Flow::Stuck { taken, .. } if !self.stopping && self.mailbox.waiting() == 0 && self.mailbox.taken() <= taken)
    }

    /// Its worker takes nothing until it says so again.
    pub(crate) fn pause(&mut self, paused: bool, poll: &Poll) {
        match self.flow {
            Flow::Broken { .. } => {}
            Flow::Paused { .. } if paused => {}
            _ if paused => {
                let stuck = if let Flow::Stuck { taken, .. } = self.flow { Some(taken) } else { None };
                self.flow = Flow::Paused { drained: false, stuck };
                self.expect_some();
                self.arm(false, poll);
            }
            // Whoever only says so, again and again, would never be found to take nothing.
            Flow::Paused { drained, stuck: Some(taken) } if self.mailbox.taken() <= taken => {
                self.flow = Flow::Stuck { taken, drained };
                self.arm(true, poll);
                self.ask_whether_back();
            }
            Flow::Paused { .. } => {
                self.flow = Flow::Open;
                if self.mailbox.waiting() == 0 {
                    self.seen = NOTHING;
                }
                self.expect_some();
            }
            _ => {}
        }
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping
    }

    /// No more connections.
    pub(crate) fn leave_rotation(&mut self) {
        self.stopping = true;
        self.expect_some();
    }

    /// Tells its worker so.
    pub(crate) fn stop(&mut self) -> Sys<()> {
        match self.mailbox.send_stop() {
            // It has shut its end down already, which is the same to it.
            Err(Errno::EPIPE | Errno::ECONNRESET | Errno::ENOTCONN) => Ok(()),
            outcome => outcome,
        }
    }

    /// Asks for an event when there is room again. True when there is room already.
    pub(crate) fn tell_when_room(&mut self, poll: &Poll, now: Instant) -> bool {
        if self.is_open() {
            return true;
        }
        if self.flow == Flow::Open && !self.stopping {
            // Room that appears before this call makes the event at once.
            self.arm(true, poll);
            self.full_since.get_or_insert(now);
        }
        false
    }

    /// The event came: its worker has taken something.
    pub(crate) fn moved(&mut self, poll: &Poll) {
        self.look_whether_back(poll);
        // A small window is full while the socket still counts as writable: such an event comes too early, and the next
        // one, an edge, when something is taken.
        if self.flow == Flow::Open && self.mailbox.room() > 0 {
            self.arm(false, poll);
            if let Some(since) = self.full_since.take() {
                self.follow_pace(since.elapsed());
            }
        }
    }

    /// Many small hand-overs cost more than a few larger ones, but only a worker that keeps up may have more waiting.
    fn follow_pace(&mut self, took: Duration) {
        let (least, most) = self.windows;
        let window = self.mailbox.window();
        if took <= PACE.0 && window < most {
            self.mailbox.set_window(window + 1);
        } else if took >= PACE.1 && window > least {
            self.mailbox.set_window(least);
        }
    }

    /// Something waits and may have to be taken back.
    pub(crate) fn wants_watch(&self) -> bool {
        let queue = self.has_turn() && self.queue.as_ref().is_some_and(OwnSocket::is_busy);
        queue || self.mailbox_wants_watch()
    }

    fn mailbox_wants_watch(&self) -> bool {
        match self.flow {
            Flow::Paused { .. } | Flow::Broken { .. } => false,
            // The NOP could not be sent.
            Flow::Stuck { drained: true, .. } => self.shows_nothing(),
            _ => self.mailbox.waiting() > 0,
        }
    }

    /// One look of the watch. `assigned`: connections begun with its slot.
    pub(crate) fn look(&mut self, look: &Look, assigned: u64) -> Watched {
        let before = self.flow;
        let mailbox = Watched { again: self.look_at_mailbox(look).then_some(LOOK), changed: false };
        let queue = self.look_at_queue(look, assigned);
        mailbox.and(queue).and(Watched { again: None, changed: self.flow != before })
    }

    fn look_at_mailbox(&mut self, look: &Look) -> bool {
        let waiting = self.mailbox.waiting();
        self.look_whether_back(look.poll);
        self.ask_whether_back();
        let taken = self.mailbox.taken();
        if waiting == 0 {
            self.seen = NOTHING;
            return false;
        }
        match self.seen == taken {
            true => {
                self.standing += look.evidence();
                self.follow_pace(PACE.1);
            }
            false => self.standing = Duration::ZERO,
        }
        self.seen = taken;
        if self.flow == Flow::Open && self.standing >= STUCK {
            self.get_stuck(look.poll);
        }
        self.mailbox_wants_watch()
    }

    fn look_at_queue(&mut self, look: &Look, assigned: u64) -> Watched {
        let Some(queue) = &mut self.queue else { return Watched::default() };
        if self.flow != Flow::Open || self.stopping {
            queue.out_of_turn();
            return Watched::default();
        }
        match queue.look(look, self.worker, assigned) {
            Seen::Moving(watched) => watched,
            Seen::Unnoticed => Watched { again: Some(look.soon()), changed: true },
            Seen::Stuck => {
                self.get_stuck(look.poll);
                // It shows when the worker is back.
                let _ = self.mailbox.send_nop();
                Watched::default()
            }
            Seen::Gone => {
                queue.spoil();
                Watched { again: None, changed: true }
            }
        }
    }

    fn get_stuck(&mut self, poll: &Poll) {
        self.flow = Flow::Stuck { taken: self.mailbox.taken(), drained: false };
        self.arm(true, poll);
    }

    /// What waits for it goes to others, as if it were known to be stuck.
    pub(super) fn pass_over(&mut self) {
        if self.flow == Flow::Open && !self.stopping {
            self.flow = Flow::Stuck { taken: self.mailbox.taken(), drained: false };
            self.expect_some();
        }
    }

    /// What shows that its worker takes: out of the mailbox, and by its own count.
    pub(super) fn taken(&self) -> (u64, u64) {
        (self.mailbox.taken(), self.mailbox.board.taken())
    }

    /// Who is stuck comes back by an event alone; this makes up for one that could not be asked for, and for a NOP that the primary
    /// took back itself.
    pub(crate) fn watch_for_return(&mut self, poll: &Poll) {
        if matches!(self.flow, Flow::Stuck { .. }) {
            self.arm(true, poll);
            self.ask_whether_back();
        }
    }

    /// Only what its worker has taken itself shows that it is back: an empty mailbox may have been emptied by the primary.
    fn look_whether_back(&mut self, poll: &Poll) {
        if let Flow::Stuck { taken, .. } = self.flow
            && self.mailbox.taken() > taken
        {
            self.flow = Flow::Open;
            self.seen = NOTHING;
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
