//! The slots that workers sit in, and how the worker of each is made.

use std::sync::Arc;
use std::time::Duration;

use super::Plan;
use crate::error::Error;
use crate::restart::{Backoff, Life};

/// So many failures of every slot in a row are enough while nothing has ever listened.
pub(super) const FAILURES: u32 = 3;

/// What failed in one slot, time after time.
#[derive(Default)]
struct Failures {
    count: u32,
    last: Option<Error>,
}

impl Failures {
    fn note(&mut self, failure: Option<Error>) {
        self.count = if failure.is_some() { self.count.saturating_add(1) } else { 0 };
        self.last = failure;
    }

    fn are_enough(&self) -> bool {
        self.count >= FAILURES
    }
}

/// How the worker of a slot is made.
#[derive(Clone)]
pub(super) enum Recipe {
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

#[derive(Default)]
pub(super) struct Slots(Vec<Slot>);

impl Slots {
    /// The lowest that nobody sits in or is due to.
    pub(super) fn free(&self) -> u32 {
        let free = self.0.iter().position(|slot| slot.worker.is_none() && slot.replacing.is_none());
        free.unwrap_or(self.0.len()) as u32
    }

    /// A worker sits in a slot from now on.
    pub(super) fn occupy(&mut self, slot: u32, worker: u32, recipe: Recipe) {
        let index = slot as usize;
        if self.0.len() <= index {
            self.0.resize_with(index + 1, Slot::default);
        }
        let slot = &mut self.0[index];
        slot.worker = Some(worker);
        slot.replacing = None;
        slot.recipe = Some(recipe);
    }

    /// Nobody sits there any more.
    pub(super) fn vacate(&mut self, slot: u32) {
        if let Some(slot) = self.0.get_mut(slot as usize) {
            slot.worker = None;
        }
    }

    /// Keeps a slot for a replacement and tells how long to wait. `failure`: why its worker never listened.
    pub(super) fn plan_replacement(
        &mut self,
        slot: u32,
        (life, failure): (Life, Option<Error>),
        limits: (Duration, Duration),
        jitter: f64,
    ) -> Option<Duration> {
        let slot = self.0.get_mut(slot as usize)?;
        slot.failures.note(failure);
        slot.replacing = Some(slot.recipe.clone()?);
        Some(slot.backoff.next(life, limits.0, limits.1, jitter))
    }

    /// What a slot is waiting for.
    pub(super) fn replacement(&self, slot: u32) -> Option<Recipe> {
        self.0.get(slot as usize).and_then(|slot| slot.replacing.clone())
    }

    fn in_use(&self) -> impl Iterator<Item = &Slot> {
        self.0.iter().filter(|slot| slot.worker.is_some() || slot.replacing.is_some())
    }

    /// Those that have a worker or are to get one.
    pub(super) fn count(&self) -> usize {
        self.in_use().count()
    }

    /// How many slots there are and the most telling failure, when all of them have failed too often.
    pub(super) fn hopeless(&self) -> Option<(usize, &Error)> {
        if !self.in_use().all(|slot| slot.failures.are_enough()) {
            return None;
        }
        // That an address is taken says more than that somebody never spoke.
        let failures = || self.in_use().filter_map(|slot| slot.failures.last.as_ref());
        let failure = failures().find(|failure| failure.code() != -libc::ENOTCONN).or_else(|| failures().next())?;
        Some((self.count(), failure))
    }

    pub(super) fn cancel_replacements(&mut self) {
        for slot in &mut self.0 {
            slot.replacing = None;
        }
    }

    /// Nobody is to be made as the worker of this slot was, or of any.
    pub(super) fn let_go(&self, slot: Option<u32>) {
        let meant = |index: usize| slot.is_none_or(|slot| slot as usize == index);
        for (_, slot) in self.0.iter().enumerate().filter(|(index, _)| meant(*index)) {
            if let Some(Recipe::Program(plan)) = &slot.recipe {
                plan.let_go();
            }
        }
    }

    pub(super) fn is_replacing(&self) -> bool {
        self.0.iter().any(|slot| slot.replacing.is_some())
    }

    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn worker(&self, slot: u32) -> Option<u32> {
        self.0[slot as usize].worker
    }

    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn count_workers(&self) -> usize {
        self.0.iter().filter(|slot| slot.worker.is_some()).count()
    }
}
