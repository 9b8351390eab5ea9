//! The workers a primary has, and the slots they sit in.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::allowance::Allowance;
use super::comeback::Failures;
use super::event::WorkerRef;
use super::permits::Refusals;
use super::spawn::Plan;
use crate::channel::Channel;
use crate::error::Error;
use crate::handle::Pulse;
use crate::restart::{Backoff, Life};
use crate::scoreboard::Board;
use crate::sys::process::{Child, ProcessorTime, processor_time};

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

/// One running worker.
pub(crate) struct Entry {
    pub(crate) id: u32,
    pub(crate) slot: u32,
    pub(crate) process: Child,
    /// Gone once the worker has closed its end.
    pub(crate) channel: Option<Channel>,
    pub(crate) grants: Channel,
    /// Its closing, by our death, reaches the worker whatever it does.
    pub(crate) _lifeline: OwnedFd,
    pub(crate) nonce: u64,
    /// It has said that it is online. Apart from the state: it may be asked to leave before.
    pub(crate) greeted: bool,
    /// It sets socket options later, and knows what says that it may.
    pub(crate) sets_options: bool,
    /// What reading its frames may take.
    pub(crate) allowance: Allowance,
    /// Its channel is read again after a pause.
    pub(crate) resting: bool,
    pub(crate) state: WorkerState,
    pub(crate) started: Instant,
    /// Its process was reaped, and what it said last is being read.
    pub(crate) ended: bool,
    /// Listener id and handle id of each open listener.
    pub(crate) listeners: BTreeMap<u32, u32>,
    /// Those of them that the primary's program holds in its stead; the end of the channel says nothing of them.
    pub(crate) relayed: BTreeSet<u32>,
    /// Connections taken by listeners that are closed.
    pub(crate) delivered_before: u64,
    /// What it tells without being asked.
    pub(crate) board: Arc<Board>,
    pub(crate) escalation: Option<(Instant, Escalation)>,
    /// We started it as another user: it may listen only on what was declared.
    pub(crate) confined: bool,
    pub(crate) refusals: Refusals,
    /// It had a share of an address at some time.
    pub(crate) listened: bool,
    /// It took connections without counting them: Node accepts from a socket in the kernel by itself, and what the program holds
    /// in its worker's stead the program takes.
    pub(crate) took_uncounted: bool,
    /// Why it got none, the last time that it asked.
    pub(crate) refused: Option<Error>,
}

impl Entry {
    pub(crate) fn reference(&self) -> WorkerRef {
        WorkerRef { id: self.id, slot: self.slot, pid: self.process.pid() }
    }

    /// It has taken a connection. For one that has ended and is out of the books.
    pub(crate) fn has_served(&self) -> bool {
        // What was passed to it and not taken is another's. A worker without a page cannot count; what left its mailbox it took.
        self.board.taken() > 0 || (self.delivered_before > 0 && !self.board.is_counted()) || self.took_uncounted
    }

    /// It was told to leave; the end of its channel alone does not count, since one that never took it is served all
    /// the same.
    pub(crate) fn was_asked_to_leave(&self) -> bool {
        self.state == WorkerState::Disconnecting || (self.state == WorkerState::Disconnected && self.greeted)
    }

    pub(crate) fn is_leaving(&self) -> bool {
        self.state >= WorkerState::Disconnecting
    }
}

/// How the worker of a slot is made.
#[derive(Clone)]
pub(crate) enum Recipe {
    /// By fork: only the program itself can do it, outside of the primary's own code.
    Fork,
    Program(Arc<Plan>),
    /// By the program, which also replaces it.
    Enrolled,
}

#[derive(Default)]
struct Slot {
    worker: Option<u32>,
    /// A replacement is due.
    replacing: Option<Recipe>,
    backoff: Backoff,
    failures: Failures,
    recipe: Option<Recipe>,
}

/// Workers by id, and slots.
#[derive(Default)]
pub(crate) struct Registry {
    workers: BTreeMap<u32, Entry>,
    slots: Vec<Slot>,
    last_id: u32,
}

impl Pulse for Registry {
    fn sign_of_life(&self, worker: u32) -> Option<u64> {
        self.get(worker)?.board.progress()
    }

    fn processor_time(&self, worker: u32) -> Option<ProcessorTime> {
        processor_time(self.get(worker)?.process.pid())
    }
}

impl Registry {
    pub(crate) fn next_id(&mut self) -> u32 {
        self.last_id += 1;
        self.last_id
    }

    /// The lowest slot that nobody sits in or is due to.
    pub(crate) fn free_slot(&self) -> u32 {
        let free = self.slots.iter().position(|slot| slot.worker.is_none() && slot.replacing.is_none());
        free.unwrap_or(self.slots.len()) as u32
    }

    pub(crate) fn insert(&mut self, entry: Entry, recipe: Recipe) {
        let index = entry.slot as usize;
        if self.slots.len() <= index {
            self.slots.resize_with(index + 1, Slot::default);
        }
        let slot = &mut self.slots[index];
        slot.worker = Some(entry.id);
        slot.replacing = None;
        slot.recipe = Some(recipe);
        self.workers.insert(entry.id, entry);
    }

    pub(crate) fn remove(&mut self, id: u32) -> Option<Entry> {
        let entry = self.workers.remove(&id)?;
        if let Some(slot) = self.slots.get_mut(entry.slot as usize) {
            slot.worker = None;
        }
        Some(entry)
    }

    /// Keeps a slot for a replacement and tells how long to wait.
    pub(crate) fn plan_replacement(
        &mut self,
        slot: u32,
        life: Life,
        limits: (Duration, Duration),
        jitter: f64,
    ) -> Option<Duration> {
        let slot = self.slots.get_mut(slot as usize)?;
        slot.replacing = Some(slot.recipe.clone()?);
        Some(slot.backoff.next(life, limits.0, limits.1, jitter))
    }

    /// What a slot is waiting for.
    pub(crate) fn replacement(&self, slot: u32) -> Option<Recipe> {
        self.slots.get(slot as usize).and_then(|slot| slot.replacing.clone())
    }

    /// The slot's workers are the program's to start and to replace.
    pub(crate) fn is_of_the_program(&self, slot: u32) -> bool {
        let slot = self.slots.get(slot as usize);
        slot.is_some_and(|slot| matches!(slot.recipe, Some(Recipe::Enrolled)))
    }

    pub(crate) fn failures_mut(&mut self, slot: u32) -> Option<&mut Failures> {
        self.slots.get_mut(slot as usize).map(|slot| &mut slot.failures)
    }

    fn in_use(&self) -> impl Iterator<Item = &Slot> {
        self.slots.iter().filter(|slot| slot.worker.is_some() || slot.replacing.is_some())
    }

    /// Slots that have a worker or are to get one.
    pub(crate) fn count_slots(&self) -> usize {
        self.in_use().count()
    }

    /// How many slots there are and the most telling failure, when all of them have failed too often.
    pub(crate) fn hopeless(&self) -> Option<(usize, &Error)> {
        if !self.in_use().all(|slot| slot.failures.are_enough()) {
            return None;
        }
        // That an address is taken says more than that somebody never spoke.
        let failures = || self.in_use().filter_map(|slot| slot.failures.last());
        let failure = failures().find(|failure| failure.code() != -libc::ENOTCONN).or_else(|| failures().next())?;
        Some((self.count_slots(), failure))
    }

    pub(crate) fn cancel_replacements(&mut self) {
        for slot in &mut self.slots {
            slot.replacing = None;
        }
    }

    /// Nobody is to be made as the worker of this slot was, or of any.
    pub(crate) fn let_go(&self, slot: Option<u32>) {
        let meant = |index: usize| slot.is_none_or(|slot| slot as usize == index);
        for (_, slot) in self.slots.iter().enumerate().filter(|(index, _)| meant(*index)) {
            if let Some(Recipe::Program(plan)) = &slot.recipe {
                plan.let_go();
            }
        }
    }

    pub(crate) fn is_replacing(&self) -> bool {
        self.slots.iter().any(|slot| slot.replacing.is_some())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.workers.is_empty()
    }

    pub(crate) fn get(&self, id: u32) -> Option<&Entry> {
        self.workers.get(&id)
    }

    pub(crate) fn get_mut(&mut self, id: u32) -> Option<&mut Entry> {
        self.workers.get_mut(&id)
    }

    /// Every channel that is still open.
    pub(crate) fn take_channels(&mut self) -> impl Iterator<Item = Channel> {
        self.workers.values_mut().filter_map(|entry| entry.channel.take())
    }

    pub(crate) fn ids(&self) -> Vec<u32> {
        self.workers.keys().copied().collect()
    }

    /// Panics when slots and workers disagree; for the fuzzer and the tests.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn check(&self) {
        for (id, entry) in &self.workers {
            assert_eq!((entry.id, self.slots[entry.slot as usize].worker), (*id, Some(*id)));
        }
        let seated = self.slots.iter().filter(|slot| slot.worker.is_some()).count();
        assert_eq!(seated, self.workers.len());
    }
}
