//! Which worker sits in which slot, by which recipe it was made, and how one takes the place of another: reload, restart, recycling,
//! scaling. Pure: what happens and the time come in, what is to be done comes out.
//!
//! A worker that is to take another's place is started *beside* it and listens without turns. Once it is ready it gets the slot's
//! turns, and the old one leaves. Until then nothing is taken from the old one, so whatever the new one fails at costs nobody
//! anything.

mod action;
mod coming;
mod drainers;
#[cfg(test)]
mod model;
mod reload;
mod run;
mod slot;
mod swap;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::Instant;

pub(crate) use action::{Action, News, Order};
pub use action::{Generation, Outcome, Phase};
pub(crate) use coming::{Proof, Terms, Why};
use drainers::Drainers;
pub(crate) use reload::Busy;
pub(crate) use run::ReloadOptions;
use run::Run;
pub use run::When;
use slot::Slot;
pub(crate) use swap::NotNow;

/// What bounds the fleet, whatever is done to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// How many recycled and restarted workers are replaced at a time.
    pub(crate) at_a_time: usize,
    /// Of those who leave, how many may take their time; `None`: as many as there have been slots.
    pub(crate) draining: Option<usize>,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { at_a_time: 1, draining: None }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Fleet {
    slots: Vec<Slot>,
    bounds: Bounds,
    last_generation: Generation,
    /// What a new slot is made by, and what came before that.
    in_force: Generation,
    before: Option<Generation>,
    run: Option<Run>,
    /// A reload that waits for the one that runs.
    queued: Option<(Generation, ReloadOptions)>,
    /// Slots whose worker is to be replaced, one after the other.
    wanted: VecDeque<(u32, Why)>,
    drainers: Drainers,
    last_order: Order,
    stopping: bool,
    at_rest: bool,
    actions: VecDeque<Action>,
}

impl Fleet {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self { bounds, last_generation: 1, in_force: 1, ..Self::default() }
    }

    /// How many recycled and restarted workers are replaced at a time from here on.
    pub(crate) fn replace_at_a_time(&mut self, most: usize) {
        self.bounds.at_a_time = most;
        self.go_on();
    }

    /// What is to be done next.
    pub(crate) fn next_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// By whose recipe a new slot is filled.
    pub(crate) fn in_force(&self) -> Generation {
        self.in_force
    }

    /// By whose recipe workers are made after a roll-back: while a reload runs that of those before it.
    pub(crate) fn goes_back_to(&self) -> Option<Generation> {
        if self.run.is_some() { Some(self.in_force) } else { self.before }
    }

    /// Slots in which somebody is to sit.
    pub(crate) fn wanted_slots(&self) -> impl Iterator<Item = u32> + Clone + '_ {
        self.indices().filter(|slot| self.slots[*slot as usize].is_wanted())
    }

    /// How many they are.
    pub(crate) fn size(&self) -> usize {
        self.wanted_slots().count()
    }

    /// Somebody is to be made for an empty slot, now or later.
    pub(crate) fn awaits_somebody(&self) -> bool {
        !self.stopping && self.slots.iter().any(Slot::awaits_somebody)
    }

    /// What was ordered is still wanted.
    pub(crate) fn awaits(&self, order: Order) -> bool {
        self.slots.iter().any(|slot| slot.is_waiting_for(order))
    }

    /// It has a slot's place.
    pub(crate) fn sits(&self, worker: u32) -> bool {
        self.slots.iter().any(|slot| slot.sits(worker))
    }

    /// A recipe that may be needed again.
    pub(crate) fn needs(&self, generation: Generation) -> bool {
        generation == self.in_force
            || self.before == Some(generation)
            || self.run.as_ref().is_some_and(|run| run.needs(generation))
            || self.queued.is_some_and(|(queued, _)| queued == generation)
            || self.slots.iter().any(|slot| slot.needs(generation))
    }

    /// All that it knows of; for the fuzzer and the tests.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn workers(&self) -> impl Iterator<Item = u32> + '_ {
        self.slots.iter().flat_map(Slot::workers).chain(self.drainers.workers())
    }

    /// Nothing is to be done, and nobody to be looked at, until something happens.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.at_rest
    }

    /// All that was to be done is done.
    pub(crate) fn rest(&mut self) {
        self.at_rest = self.actions.is_empty() && self.unready().next().is_none() && !self.is_swapping();
    }

    fn is_swapping(&self) -> bool {
        self.slots.iter().any(Slot::is_being_swapped)
    }

    /// The lowest slot that is free.
    pub(crate) fn free(&self) -> u32 {
        let free = self.slots.iter().position(|slot| !slot.is_wanted() && slot.is_empty());
        free.unwrap_or(self.slots.len()) as u32
    }

    fn slot(&mut self, slot: u32) -> Option<&mut Slot> {
        self.slots.get_mut(slot as usize)
    }

    fn slot_at(&mut self, slot: u32) -> &mut Slot {
        let index = slot as usize;
        if self.slots.len() <= index {
            self.slots.resize_with(index + 1, Slot::default);
        }
        &mut self.slots[index]
    }

    fn indices(&self) -> std::ops::Range<u32> {
        0..self.slots.len() as u32
    }

    /// The program has put a worker into a slot itself.
    pub(crate) fn seat(&mut self, slot: u32, worker: u32) {
        let generation = self.in_force;
        self.slot_at(slot).seat(worker, generation);
        self.at_rest = false;
    }

    /// What came of a `Start`.
    pub(crate) fn started(&mut self, order: Order, made: Result<u32, String>, now: Instant) {
        let slot = self.indices().find(|slot| self.slots[*slot as usize].is_waiting_for(order));
        match (slot, made) {
            (Some(slot), Ok(worker)) => self.slots[slot as usize].arrive(worker, now),
            // Nobody waits for it any more.
            (None, Ok(worker)) => self.retire(worker),
            (Some(slot), Err(reason)) if self.slots[slot as usize].is_being_swapped() => self.fail(slot, &reason),
            (Some(slot), Err(_)) => {
                self.slots[slot as usize].could_not_start();
                self.want_replacement(slot);
            }
            (None, Err(_)) => {}
        }
        self.go_on();
    }

    /// What is to be seen of a worker that is not ready yet; see `unready`.
    pub(crate) fn observe(&mut self, worker: u32, proof: &Proof, now: Instant) {
        let Some(index) = self.indices().find(|slot| self.slots[*slot as usize].has(worker)) else { return };
        let slot = &mut self.slots[index as usize];
        if let Some(generation) = slot.note_ready(worker, proof, now) {
            self.actions.push_back(Action::Tell(News::Ready { worker, generation }));
        }
        self.tick(now);
    }

    /// Workers that are not ready, or are to stay so: whose place each is to take, and whether it may listen on less.
    pub(crate) fn unready(&self) -> impl Iterator<Item = (u32, Option<u32>, bool)> + '_ {
        self.slots.iter().flat_map(Slot::unready)
    }

    /// When something is to be looked at or is over.
    pub(crate) fn next_at(&self, now: Instant) -> Option<Instant> {
        self.slots.iter().filter_map(|slot| slot.next_at(now)).min()
    }

    /// The time has come, perhaps.
    pub(crate) fn tick(&mut self, now: Instant) {
        for slot in self.indices() {
            match self.slots[slot as usize].judge(now) {
                Some(Ok(())) => self.swap(slot),
                Some(Err(reason)) => self.fail(slot, &reason),
                None => {}
            }
        }
        self.go_on();
    }

    /// A worker's process has ended. `short`: its life was that of a crash loop; `how`: for a sentence.
    pub(crate) fn ended(&mut self, worker: u32, short: bool, how: &str) {
        self.drainers.ended(worker);
        if let Some(slot) = self.indices().find(|slot| self.slots[*slot as usize].has(worker)) {
            if self.slots[slot as usize].is_coming(worker) {
                self.slots[slot as usize].coming_has_ended();
                self.fail(slot, &format!("worker {worker} {how} before it was ready"));
            } else {
                self.slots[slot as usize].stand_up();
                if short && self.run.as_ref().is_some_and(|run| run.has_swapped(slot)) {
                    self.give_up(&format!("worker {worker} {how} soon after it had taken its place"));
                }
                self.want_replacement(slot);
            }
        }
        self.go_on();
    }

    /// Nobody is to be made for this slot: if it is empty, which is true then, or if the one on the way fails.
    pub(crate) fn abandon(&mut self, slot: u32) -> bool {
        let empty = self.lacks_somebody(slot);
        if empty {
            self.leave_slot(slot);
            self.go_on();
        } else if let Some(slot) = self.slot(slot) {
            slot.let_be_last();
        }
        empty
    }

    /// Whoever was on the way was to be the last there.
    pub(crate) fn was_last(&self, slot: u32) -> bool {
        self.slots.get(slot as usize).is_some_and(Slot::is_last)
    }

    /// It is empty, somebody is to sit there, and nobody is on the way.
    pub(crate) fn lacks_somebody(&self, slot: u32) -> bool {
        self.slots.get(slot as usize).is_some_and(Slot::lacks_somebody)
    }

    /// So many slots are to be filled from here on. The highest go first.
    pub(crate) fn scale(&mut self, size: usize) {
        if self.stopping {
            return;
        }
        while self.size() < size {
            let (slot, generation) = (self.free_or_leaving(), self.in_force);
            self.slot_at(slot).want(generation);
            self.replace_now(slot);
            if let Some(run) = &mut self.run {
                run.add(slot);
            }
        }
        while self.size() > size {
            let Some(slot) = self.indices().rev().find(|slot| self.slots[*slot as usize].is_wanted()) else { return };
            self.leave_slot(slot);
        }
        self.go_on();
    }

    fn free_or_leaving(&self) -> u32 {
        let free = self.slots.iter().position(|slot| !slot.is_wanted());
        free.unwrap_or(self.slots.len()) as u32
    }

    fn leave_slot(&mut self, slot: u32) {
        let Some(left) = self.slot(slot).map(Slot::leave) else { return };
        left.into_iter().for_each(|worker| self.retire(worker));
        self.wanted.retain(|(other, _)| *other != slot);
        if let Some(run) = &mut self.run {
            run.remove(slot);
        }
    }

    /// Nobody is replaced any more who runs: what is under way is given up.
    pub(crate) fn cancel(&mut self, reason: &str) {
        self.at_rest = false;
        self.queued.take().into_iter().for_each(|(generation, _)| self.tell_superseded(generation));
        self.supersede(reason);
        self.drop_comings(|_| true);
        self.wanted.clear();
    }

    /// Everybody leaves. Nothing is begun any more.
    pub(crate) fn stop(&mut self) {
        self.stopping = true;
        self.cancel("the cluster is being stopped");
        self.slots.iter_mut().for_each(Slot::stop_waiting);
        self.actions.retain(|action| !matches!(action, Action::Start { .. } | Action::Replace { .. }));
    }

    /// Everybody has left; others may come.
    pub(crate) fn begin_again(&mut self) {
        self.stopping = false;
        for slot in self.indices() {
            self.abandon(slot);
        }
    }

    fn retire(&mut self, worker: u32) {
        self.drainers.add(worker);
        self.actions.push_back(Action::Retire { worker });
    }

    /// An empty slot in which somebody is to sit, and to which nobody comes.
    fn want_replacement(&mut self, slot: u32) {
        if !self.stopping && self.slot(slot).is_some_and(|slot| slot.lacks_somebody()) {
            self.actions.push_back(Action::Replace { slot });
        }
    }

    /// The back-off of an empty slot is over.
    pub(crate) fn replace_now(&mut self, slot: u32) {
        self.at_rest = false;
        let order = self.next_order();
        let stopping = self.stopping;
        let begun = self.slot(slot).filter(|_| !stopping).and_then(|slot| slot.begin(order));
        if let Some(generation) = begun {
            self.actions.push_back(Action::Start { slot, generation, beside: false, order });
        }
    }

    fn next_order(&mut self) -> Order {
        self.last_order += 1;
        self.last_order
    }
}
