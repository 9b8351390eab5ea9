//! What a fleet wants to be done, and what it tells.

use std::time::Duration;

/// All workers that were made by one recipe; counted from 1, never used twice.
pub type Generation = u32;

/// Names one `Start`.
pub(crate) type Order = u64;

/// How often whoever is to become ready is looked at.
pub(crate) const LOOK: Duration = Duration::from_millis(20);

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// A worker is to be made by the recipe of this generation. `beside`: it gets no turns before a `Swap`. [`Fleet::started`] tells
    /// what came of it, by this number.
    Start { slot: u32, generation: Generation, beside: bool, order: Order },
    /// From here on `new` has the slot's turns. `old` is to leave.
    Swap { slot: u32, old: Option<u32>, new: u32 },
    /// This worker is to leave.
    Retire { worker: u32 },
    /// It has had long enough to leave.
    Hasten { worker: u32 },
    /// Nobody sits in this slot any more, and somebody is to: when, is a matter of back-off.
    Replace { slot: u32 },
    /// The program is to know.
    Tell(News),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum News {
    Reload {
        generation: Generation,
        phase: Phase,
        replaced: usize,
        reason: String,
    },
    Ready {
        worker: u32,
        generation: Generation,
    },
    Recycled {
        worker: u32,
        generation: Generation,
    },
    /// A worker that was to be replaced is still there.
    Kept {
        slot: u32,
        reason: String,
    },
}

/// How far a reload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The first workers of the generation are on their way.
    Checking,
    /// One has taken its predecessor's place.
    Rolling,
    /// It is over.
    Ended(Outcome),
}

/// How a reload has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Every slot has a worker of it.
    Done,
    /// Nothing was taken from the old workers.
    Refused,
    /// What had been swapped was put back.
    RolledBack,
    /// Another, or a stop, came before its end.
    Superseded,
}
