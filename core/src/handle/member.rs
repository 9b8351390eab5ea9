//! One listener of one worker, seen from the handle: its mailbox, and whether it gets connections.

use std::time::{Duration, Instant};

use nix::errno::Errno;

use crate::channel::pending;
use crate::mailbox::{Connection, Mailbox, TakenBack};
use crate::sys::Sys;
use crate::sys::poll::{Interest, Poll};
use crate::token::Token;

/// How much evidence makes a member stuck: three looks without progress. More than one, because on a busy machine a
/// healthy worker may well not run for an interval of the watch.
const STUCK: u32 = 3 * IN_TIME;
/// What a look in time is worth, and one that came late: the machine is then too busy to run even the primary.
const IN_TIME: u32 = 4;
const LATE: u32 = 1;

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
    /// Its worker has said that it takes nothing for now. What waits is taken back.
    Paused { drained: bool },
    /// Its end of the mailbox was shut down. What waits is taken back; nothing is sent any more.
    Broken { drained: bool },
}

/// What a look of the watch found.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Watched {
    /// Another look is needed.
    pub(crate) again: bool,
    /// Somebody got stuck or came back, so there may be something to pump.
    pub(crate) changed: bool,
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
    evidence: u32,
    armed: bool,
    /// The least window and the most; see `PACE`.
    windows: (u32, u32),
    full_since: Option<Instant>,
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
            evidence: 0,
            armed: false,
            windows,
            full_since: None,
        }
    }

    /// In the rotation, with room.
    pub(crate) fn is_open(&mut self) -> bool {
        self.flow == Flow::Open && !self.stopping && self.mailbox.room() > 0
    }

    /// Connections given to it and not taken back.
    pub(crate) fn passed(&self) -> u64 {
        self.passed
    }

    /// Of those, what its worker has received.
    pub(crate) fn delivered(&self) -> u64 {
        self.passed.saturating_sub(self.mailbox.waiting().into())
    }

    /// Its queue can be taken from.
    pub(crate) fn is_source(&self) -> bool {
        matches!(
            self.flow,
            Flow::Stuck { drained: false, .. } | Flow::Paused { drained: false } | Flow::Broken { drained: false }
        )
    }

    pub(crate) fn stage(&mut self, connection: Connection) {
        self.mailbox.reserve();
        self.staged.push(connection);
    }

    pub(crate) fn take_staged(&mut self) -> Vec<Connection> {
        std::mem::take(&mut self.staged)
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

    /// The oldest connection its worker has not received; `None` once there is none, and then a NOP is left in the
    /// mailbox to show when the worker is back.
    pub(crate) fn take_back(&mut self) -> Sys<Option<Connection>> {
        if let TakenBack::Connection(connection) = self.mailbox.take_back()? {
            self.passed = self.passed.saturating_sub(1);
            return Ok(Some(connection));
        }
        match &mut self.flow {
            Flow::Stuck { drained, .. } => {
                *drained = true;
                if !self.stopping && self.mailbox.waiting() == 0 {
                    match self.mailbox.send_nop() {
                        Err(errno) if pending(errno).is_none() => self.flow = Flow::Broken { drained: true },
                        // Without a NOP the next look finds an empty queue and gives the member its turn back.
                        _ => {}
                    }
                }
            }
            Flow::Paused { drained } | Flow::Broken { drained } => *drained = true,
            Flow::Open => {}
        }
        Ok(None)
    }

    /// Its worker takes nothing until it says so again.
    pub(crate) fn pause(&mut self, paused: bool, poll: &Poll) {
        match self.flow {
            Flow::Broken { .. } => {}
            _ if paused => {
                self.flow = Flow::Paused { drained: false };
                self.arm(false, poll);
            }
            Flow::Paused { .. } => {
                self.flow = Flow::Open;
                self.seen = NOTHING;
            }
            _ => {}
        }
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping
    }

    pub(crate) fn stop(&mut self) -> Sys<()> {
        self.stopping = true;
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
        self.look_whether_back(self.mailbox.waiting(), poll);
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
        !matches!(self.flow, Flow::Stuck { drained: true, .. } | Flow::Paused { .. } | Flow::Broken { .. })
            && self.mailbox.waiting() > 0
    }

    /// One look of the watch.
    pub(crate) fn look(&mut self, poll: &Poll, in_time: bool) -> Watched {
        let before = self.flow;
        let again = self.look_once(poll, in_time);
        Watched { again, changed: self.flow != before }
    }

    fn look_once(&mut self, poll: &Poll, in_time: bool) -> bool {
        let waiting = self.mailbox.waiting();
        self.look_whether_back(waiting, poll);
        let taken = self.mailbox.taken();
        if waiting == 0 {
            self.seen = NOTHING;
            return false;
        }
        self.evidence = match self.seen == taken {
            true => self.evidence + if in_time { IN_TIME } else { LATE },
            false => 0,
        };
        self.seen = taken;
        if self.evidence > 0 {
            self.follow_pace(PACE.1);
        }
        if self.flow == Flow::Open && self.evidence >= STUCK {
            self.flow = Flow::Stuck { taken, drained: false };
            self.arm(true, poll);
        }
        self.wants_watch()
    }

    fn look_whether_back(&mut self, waiting: u32, poll: &Poll) {
        if let Flow::Stuck { taken, .. } = self.flow
            && (waiting == 0 || self.mailbox.taken() > taken)
        {
            self.flow = Flow::Open;
            self.seen = NOTHING;
            self.arm(false, poll);
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
