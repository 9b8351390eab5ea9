//! The workers a primary has, the slots they sit in, and what becomes of both: starting, replacing, leaving, dying. Of addresses only
//! their numbers are known here.

mod account;
mod death;
mod due;
mod enrolled;
mod entry;
mod environment;
mod inheritance;
mod leaving;
mod left;
mod plan;
mod recipes;
mod records;
mod recycling;
mod renewing;
mod replacing;
mod start;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

pub use due::Due;
pub(crate) use due::Ordered;
pub use enrolled::{Enrolled, Granted, Relayed, Wanted};
pub(crate) use entry::Entry;
pub use entry::WorkerState;
pub(crate) use plan::Plan;
pub use plan::SpawnOptions;
use recipes::Generations;
use records::{Left, Records};
pub use renewing::ReloadOptions;
pub use start::Forked;

use crate::error::{Context, Error, Result};
use crate::fleet::{Bounds, Fleet};
use crate::mechanism::Pulse;
use crate::recycle::RecycleOptions;
use crate::restart::Restarts;
use crate::sys::process::{ProcessorTime, processor_time};
use crate::sys::{child, pid};

#[derive(Default)]
pub(crate) struct Workers {
    by_id: BTreeMap<u32, Entry>,
    /// Who sits where, and who is to take whose place.
    fleet: Fleet,
    generations: Generations,
    records: Records,
    recycling: RecycleOptions,
    last_id: u32,
    /// This process's own, for the workers; `None` where there are no pidfds.
    own_pidfd: Option<OwnedFd>,
    /// Respawn when the settings leave it open.
    respawn_by_default: bool,
    /// Nobody starts a worker any more but us.
    ends_when_idle: bool,
    /// Slots that wait for their replacement.
    restarts: Restarts,
    /// Those of them whose turn has come and for which the program is to fork.
    due_forks: VecDeque<Due>,
    /// The same for those that the program is to enroll.
    due_enrolled: VecDeque<Due>,
    /// Workers are enrolled; whether one is replaced, only the program knows.
    program_replaces: bool,
    /// Of those only the program knows which are replaced, and we replace them.
    program_decides: bool,
    /// Enrolled workers that have ended, until the program says that they have.
    left: BTreeMap<u32, Left>,
    /// Everybody is leaving, and nobody is replaced.
    stopping: bool,
    /// The program has everybody leave: nobody hands anything back, until it starts another.
    all_leave: bool,
    /// A stop was asked for and goes on serving: its deadline.
    draining: Option<Duration>,
    /// Workers that are to leave when those who wait for them are served, or at this time.
    farewells: BTreeMap<u32, Instant>,
    /// Workers that a signal has asked to leave.
    signalled: BTreeSet<u32>,
    /// Why this process may start no workers.
    forbidden: Option<Error>,
}

impl Pulse for Workers {
    fn sign_of_life(&self, worker: u32) -> Option<u64> {
        self.get(worker)?.board.progress()
    }

    fn processor_time(&self, worker: u32) -> Option<ProcessorTime> {
        processor_time(self.get(worker)?.process.pid())
    }
}

pub(crate) fn no_such_worker(id: u32) -> Error {
    Error::new(-libc::ESRCH, format!("there is no worker {id} (any more)"))
}

impl Workers {
    pub(crate) fn new() -> Self {
        Self { own_pidfd: child::pidfd(pid::own_pid()).ok(), fleet: Fleet::new(Bounds::default()), ..Self::default() }
    }

    pub(crate) fn get(&self, id: u32) -> Option<&Entry> {
        self.by_id.get(&id)
    }

    pub(crate) fn get_mut(&mut self, id: u32) -> Option<&mut Entry> {
        self.by_id.get_mut(&id)
    }

    /// A worker that the program names.
    pub(crate) fn named(&self, id: u32) -> Result<&Entry> {
        self.get(id).ok_or_else(|| no_such_worker(id))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.by_id.values()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.by_id.values_mut()
    }

    pub(crate) fn count(&self) -> usize {
        self.by_id.len()
    }

    pub(crate) fn ids(&self) -> Vec<u32> {
        self.by_id.keys().copied().collect()
    }

    pub(crate) fn kill(&self, id: u32, signal: i32) -> Result<()> {
        let sent = self.named(id)?.process.signal(signal);
        sent.context(format_args!("sending signal {signal} to worker {id}"))
    }

    /// No worker runs, and none is due.
    pub(crate) fn are_idle(&self) -> bool {
        self.by_id.is_empty() && !self.fleet.awaits_somebody()
    }

    /// Everybody is leaving, and nobody is replaced.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping
    }

    /// Workers are enrolled; whether one is replaced, only the program knows.
    pub(crate) fn are_replaced_by_the_program(&self) -> bool {
        self.program_replaces
    }

    pub(crate) fn respawn_by_default(&mut self, always: bool) {
        self.respawn_by_default = always;
    }

    pub(crate) fn end_when_idle(&mut self, ends: bool) {
        self.ends_when_idle = ends;
    }

    /// Panics when slots and workers disagree; for the fuzzer and the tests.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn check(&self) {
        for (id, entry) in &self.by_id {
            assert_eq!(entry.id, *id);
            assert!(self.fleet.workers().any(|known| known == *id), "worker {id} is nobody's");
        }
        for id in self.fleet.workers() {
            assert!(self.by_id.contains_key(&id), "worker {id} is gone");
        }
    }
}
