//! Replacing workers that run: what the fleet orders is made, and what it asks is answered.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::due::Ordered;
use super::plan::SpawnOptions;
use super::recipes::{Recipe, Recipes};
use super::{Plan, Workers, no_such_worker};
use crate::error::{ETHREADS, Error, Result};
use crate::fleet::{self, Action, Busy, Generation, NotNow, Proof, Terms, When, Why};
use crate::primary::ground::Ground;
use crate::sys::process;

/// How workers are replaced by those of a new generation.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ReloadOptions {
    /// The program of the new workers. `None`: that of the old ones, its file, user and group looked up anew.
    pub program: Option<SpawnOptions>,
    /// How many slots are swapped at a time.
    pub parallel: usize,
    /// How many more processes there may be than slots, beside those that are leaving. `None`: `parallel`.
    pub extra: Option<usize>,
    /// How long a new worker has to become ready. `None`: for ever.
    pub ready_timeout: Option<Duration>,
    /// How long it has to live after that, before it takes its predecessor's place.
    pub min_ready: Duration,
    /// What to do while another reload runs.
    pub when: When,
    /// New workers need not listen on all that the old ones do.
    pub allow_fewer: bool,
    /// When one fails after others have taken their place, these stay.
    pub no_rollback: bool,
}

impl Default for ReloadOptions {
    fn default() -> Self {
        let terms = Terms::default();
        Self {
            program: None,
            parallel: 1,
            extra: None,
            ready_timeout: terms.ready,
            min_ready: terms.alive,
            when: When::AtOnce,
            allow_fewer: terms.fewer,
            no_rollback: false,
        }
    }
}

impl ReloadOptions {
    fn for_fleet(&self) -> fleet::ReloadOptions {
        let Self { parallel, extra, ready_timeout, min_ready, when, allow_fewer, no_rollback, .. } = self;
        fleet::ReloadOptions {
            parallel: extra.map_or(*parallel, |extra| extra.min(*parallel)).max(1),
            terms: Terms { ready: *ready_timeout, alive: *min_ready, fewer: *allow_fewer },
            when: *when,
            keep: *no_rollback,
        }
    }
}

fn stopping() -> Error {
    Error::new(-libc::ESHUTDOWN, "the cluster is being stopped; no worker is replaced")
}

impl Workers {
    /// Begins to replace all workers. `program`: what makes the new ones.
    pub(crate) fn reload(&mut self, options: &ReloadOptions, program: Option<Plan>) -> Result<Generation> {
        let recipes = match program {
            Some(program) => Recipes::all_by(Arc::new(program)),
            None => self.generations.renewed(self.fleet.in_force()).ok_or_else(nothing_to_replace)??,
        };
        self.begin(options, recipes)
    }

    /// The same with what made the workers before the last reload, or before the one that runs.
    pub(crate) fn roll_back(&mut self, options: &ReloadOptions) -> Result<Generation> {
        let none = || Error::new(-libc::ENOENT, "there is nothing to go back to: no reload has come to its end yet");
        let before = self.fleet.goes_back_to().ok_or_else(none)?;
        let recipes = self.generations.get(before).cloned().ok_or_else(none)?;
        self.begin(options, recipes)
    }

    /// By whose recipe workers are made after a roll-back.
    pub(crate) fn goes_back_to(&self) -> Option<Generation> {
        self.fleet.goes_back_to()
    }

    pub(crate) fn cancel_reloads(&mut self) {
        self.fleet.cancel("it was cancelled");
    }

    fn begin(&mut self, options: &ReloadOptions, recipes: Recipes) -> Result<Generation> {
        if self.fleet.size() == 0 {
            return Err(nothing_to_replace());
        }
        if recipes.has_forks() {
            check_may_fork()?;
        }
        let generation = self.fleet.reload(options.for_fleet()).map_err(|busy| match busy {
            Busy::Stop => stopping(),
            Busy::Reload => Error::new(-libc::EBUSY, "another reload runs"),
        })?;
        self.generations.put(generation, recipes);
        Ok(generation)
    }

    /// So many slots are to have a worker.
    pub(crate) fn scale(&mut self, slots: usize) -> Result<()> {
        let recipes = self.generations.get(self.fleet.in_force()).ok_or_else(nothing_to_replace)?;
        if slots > self.fleet.size() && recipes.has_forks() {
            check_may_fork()?;
        }
        self.fleet.scale(slots);
        Ok(())
    }

    pub(crate) fn count_slots(&self) -> usize {
        self.fleet.size()
    }

    /// One worker is to be replaced by another that is made in the same way.
    pub(crate) fn restart(&mut self, id: u32) -> Result<()> {
        self.fleet.replace(id, Why::Restart).map_err(|not_now| match not_now {
            NotNow::Gone => no_such_worker(id),
            NotNow::Swapping => Error::new(-libc::EBUSY, format!("worker {id} is being replaced already")),
            NotNow::Stop => stopping(),
        })
    }

    pub(crate) fn next_action(&mut self) -> Option<Action> {
        self.fleet.next_action()
    }

    /// Makes a worker that the fleet has ordered, or has the program make it.
    pub(crate) fn start_ordered(&mut self, ordered: Ordered, ground: &mut Ground) {
        if !ordered.beside {
            self.restarts.cancel(ordered.slot);
        }
        let failure = match self.generations.of(ordered.generation, ordered.slot) {
            Some(Recipe::Fork) => {
                self.want_fork(ordered);
                return;
            }
            Some(Recipe::Program(plan)) => self.spawn_ordered(ordered, plan, ground).err(),
            Some(Recipe::Enrolled) => {
                self.want_enrolled(ordered);
                return;
            }
            None => Some(Error::new(-libc::ENOENT, "nothing says how its worker is made")),
        };
        if let Some(error) = failure {
            self.say_not_replaced(ordered, &error, ground);
            self.could_not_start(ordered, &error, ground);
        }
    }

    /// Somebody may have become ready, or something is to be done.
    pub(crate) fn stirs(&self) -> bool {
        !self.fleet.is_at_rest()
    }

    /// Those who are to be looked at: whose place each is to take, and whether it may listen on less.
    pub(crate) fn unready(&self) -> Vec<(u32, Option<u32>, bool)> {
        self.fleet.unready().collect()
    }

    pub(crate) fn observe(&mut self, worker: u32, proof: &Proof, now: Instant) {
        self.fleet.observe(worker, proof, now);
    }

    pub(crate) fn tick(&mut self, now: Instant) {
        self.fleet.tick(now);
    }

    /// All is done for now; when to look again, if that is known.
    pub(crate) fn rest(&mut self, now: Instant) -> Option<Instant> {
        self.generations.keep(|generation| self.fleet.needs(generation));
        self.fleet.rest();
        self.fleet.next_at(now)
    }
}

fn nothing_to_replace() -> Error {
    Error::new(-libc::ENOENT, "there are no workers, and so nothing says how they are made; start some first")
}

fn check_may_fork() -> Result<()> {
    if process::has_other_threads().unwrap_or(true) {
        return Err(Error::new(
            ETHREADS,
            "workers that were made by cl_fork can be replaced only by a process with one thread; name a program instead",
        ));
    }
    Ok(())
}
