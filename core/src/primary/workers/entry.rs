//! What is known of one running worker.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use crate::error::Error;
use crate::fleet::Generation;
use crate::primary::event::WorkerRef;
use crate::primary::refused::Refusals;
use crate::primary::talk::{Link, Returns};
use crate::scoreboard::Board;
use crate::sys::child::Child;

/// How far a worker has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum WorkerState {
    /// Started, has not spoken yet.
    Starting = 1,
    /// Has spoken.
    Online = 2,
    /// Listens on something.
    Listening = 3,
    /// Was asked to leave.
    Disconnecting = 4,
    /// Its channel is closed; the process still runs.
    Disconnected = 5,
}

/// What comes next for a worker that does not leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Escalation {
    Terminate,
    Kill,
}

pub(crate) struct Entry {
    pub(crate) id: u32,
    pub(crate) slot: u32,
    pub(crate) process: Child,
    pub(crate) link: Link,
    pub(crate) state: WorkerState,
    pub(crate) started: Instant,
    /// Its process was reaped, and what it said last is being read.
    pub(crate) ended: bool,
    /// Listener id and address id of each open listener.
    pub(crate) listeners: BTreeMap<u32, u32>,
    /// Those of them that the primary's program holds in its stead; the end of the channel says nothing of them.
    pub(crate) relayed: BTreeSet<u32>,
    /// What the program has opened for it itself, by name.
    pub(crate) listens_elsewhere: BTreeSet<String>,
    /// It has told the program that it is ready.
    pub(crate) said_ready: bool,
    /// It leaves, and may hand connections back.
    pub(crate) returns: Option<Returns>,
    /// Connections taken by listeners that are closed.
    pub(crate) delivered_before: u64,
    /// What it tells without being asked.
    pub(crate) board: Arc<Board>,
    pub(super) escalation: Option<(Instant, Escalation)>,
    /// We started it as another user: it may listen only on what was declared.
    pub(crate) confined: bool,
    /// The program started it, and replaces it.
    pub(crate) enrolled: bool,
    pub(crate) refusals: Refusals,
    pub(crate) generation: Generation,
    /// Its own part of the jitter with which workers are recycled, from 0 to 1.
    pub(crate) jitter: f64,
    /// It may take another's place, as far as that is known.
    pub(crate) ready: bool,
    /// It is to take another's place, and gets no connections before it does.
    pub(crate) proving: bool,
    /// It had a share of an address at some time.
    pub(super) listened: bool,
    /// It took connections without counting them: Node accepts from a socket in the kernel by itself, and what the program holds
    /// in its worker's stead the program takes.
    pub(super) took_uncounted: bool,
    /// Why it got none, the last time that it asked.
    pub(super) refused: Option<Error>,
}

impl Entry {
    pub(crate) fn reference(&self) -> WorkerRef {
        WorkerRef { id: self.id, slot: self.slot, pid: self.process.pid() }
    }

    /// It can accept in rotation, from a socket that all have, and is trusted with that.
    pub(crate) fn may_share_sockets(&self) -> bool {
        self.link.rotates && !self.confined
    }

    /// The addresses that it listens on.
    pub(crate) fn addresses(&self) -> Vec<u32> {
        self.listeners.values().copied().collect()
    }

    /// It listens on something.
    pub(crate) fn listens(&self) -> bool {
        !self.listeners.is_empty() || !self.listens_elsewhere.is_empty()
    }

    /// It has come to an address.
    pub(crate) fn joined(&mut self, listener: u32, address: u32) {
        self.listeners.insert(listener, address);
        (self.listened, self.refused) = (true, None);
    }

    /// It has got as far as this, unless it was farther.
    pub(crate) fn come_to(&mut self, state: WorkerState) {
        self.state = self.state.max(state);
    }

    /// Why the primary refuses it what it needs, the last time that it did.
    pub(crate) fn note_refused(&mut self, error: &Error) {
        if !self.listened {
            self.refused = Some(error.clone());
        }
    }

    /// So many connections were taken by a listener that is closed now.
    pub(crate) fn count(&mut self, taken: u64) {
        self.delivered_before += taken;
        self.took_uncounted |= taken > 0 && self.enrolled;
    }

    /// It has taken a connection. For one that has ended and is out of the books.
    pub(super) fn has_served(&self) -> bool {
        // What was passed to it and not taken is another's. A worker without a page cannot count; what left its mailbox it took.
        self.board.taken() > 0 || (self.delivered_before > 0 && !self.board.is_counted()) || self.took_uncounted
    }

    /// It was told to leave; the end of its channel alone does not count, since one that never took it is served all
    /// the same.
    pub(crate) fn was_asked_to_leave(&self) -> bool {
        self.state == WorkerState::Disconnecting || (self.state == WorkerState::Disconnected && self.link.greeted)
    }

    pub(crate) fn is_leaving(&self) -> bool {
        self.state >= WorkerState::Disconnecting
    }
}
