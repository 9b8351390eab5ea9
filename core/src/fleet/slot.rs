//! One slot: who sits there, and who is on the way.

use std::time::Instant;

use super::action::{Generation, LOOK, Order};
use super::coming::{Coming, Proof, Why};

#[derive(Debug)]
struct Sitting {
    worker: u32,
    generation: Generation,
    ready: bool,
}

#[derive(Debug, Default)]
pub(super) struct Slot {
    /// By whose recipe its next worker is made; `None`: nobody is to sit here.
    generation: Option<Generation>,
    sitting: Option<Sitting>,
    /// A worker is being made for it while it is empty.
    starting: Option<Order>,
    coming: Option<Coming>,
    /// Whoever sat here had served its time, and nobody is to come after the one on the way.
    last: bool,
}

impl Slot {
    pub(super) fn is_wanted(&self) -> bool {
        self.generation.is_some()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sitting.is_none() && self.coming.is_none() && self.starting.is_none()
    }

    pub(super) fn generation(&self) -> Option<Generation> {
        self.generation
    }

    /// Somebody is to sit here.
    pub(super) fn want(&mut self, generation: Generation) {
        self.generation = Some(generation);
    }

    pub(super) fn seat(&mut self, worker: u32, generation: Generation) {
        self.generation = Some(generation);
        self.sitting = Some(Sitting { worker, generation, ready: false });
        self.last = false;
    }

    pub(super) fn is_waiting_for(&self, order: Order) -> bool {
        self.starting == Some(order) || self.coming.as_ref().is_some_and(|coming| coming.is_made_by(order))
    }

    /// A worker was made that it waited for.
    pub(super) fn arrive(&mut self, worker: u32, now: Instant) {
        match (&mut self.coming, self.generation) {
            (Some(coming), _) => coming.begin(worker, now),
            (None, Some(generation)) => self.seat(worker, generation),
            (None, None) => {}
        }
        self.starting = None;
    }

    pub(super) fn could_not_start(&mut self) {
        self.starting = None;
    }

    /// Whoever is made from here on is not for this slot.
    pub(super) fn stop_waiting(&mut self) {
        self.starting = None;
    }

    pub(super) fn stand_up(&mut self) {
        self.sitting = None;
    }

    /// Nobody is to come after the one on the way.
    pub(super) fn let_be_last(&mut self) {
        self.last = self.awaits_somebody();
    }

    pub(super) fn is_last(&self) -> bool {
        self.last
    }

    /// Nobody is to sit here any more; who does, or was to.
    pub(super) fn leave(&mut self) -> Vec<u32> {
        self.generation = None;
        self.last = false;
        self.starting = None;
        let coming = self.coming.take().and_then(|coming| coming.worker);
        self.sitting.take().map(|sitting| sitting.worker).into_iter().chain(coming).collect()
    }

    pub(super) fn lacks_somebody(&self) -> bool {
        self.is_wanted() && self.is_empty()
    }

    /// Its next worker is to be made, by this recipe.
    pub(super) fn begin(&mut self, order: Order) -> Option<Generation> {
        let generation = self.generation.filter(|_| self.is_empty())?;
        self.starting = Some(order);
        Some(generation)
    }

    pub(super) fn has(&self, worker: u32) -> bool {
        self.sitting.as_ref().is_some_and(|sitting| sitting.worker == worker) || self.is_coming(worker)
    }

    pub(super) fn is_coming(&self, worker: u32) -> bool {
        self.coming.as_ref().is_some_and(|coming| coming.worker == Some(worker))
    }

    /// Somebody is on the way to take a place.
    pub(super) fn is_being_swapped(&self) -> bool {
        self.coming.is_some()
    }

    /// Somebody sits here who can be replaced.
    pub(super) fn is_taken(&self) -> bool {
        self.sitting.is_some()
    }

    pub(super) fn expect(&mut self, coming: Coming) {
        self.coming = Some(coming);
    }

    pub(super) fn coming_mut(&mut self) -> Option<&mut Coming> {
        self.coming.as_mut()
    }

    pub(super) fn coming_has_ended(&mut self) {
        if let Some(coming) = &mut self.coming {
            coming.worker = None;
        }
    }

    pub(super) fn take_coming(&mut self) -> Option<Coming> {
        self.coming.take()
    }

    /// The one on the way takes its place: who had it, who has it now, and why.
    pub(super) fn swap(&mut self) -> Option<(Option<u32>, u32, Generation, Why)> {
        let coming = self.coming.take()?;
        let new = coming.worker?;
        let old = self.sitting.replace(Sitting { worker: new, generation: coming.generation, ready: true });
        self.generation = Some(coming.generation);
        self.last = false;
        Some((old.map(|old| old.worker), new, coming.generation, coming.why))
    }

    /// True the first time that a worker is ready; its generation.
    pub(super) fn note_ready(&mut self, worker: u32, proof: &Proof, now: Instant) -> Option<Generation> {
        if let Some(coming) = self.coming.as_mut().filter(|coming| coming.worker == Some(worker)) {
            return coming.look(proof, now).then_some(coming.generation);
        }
        let sitting = self.sitting.as_mut().filter(|sitting| sitting.worker == worker && !sitting.ready)?;
        sitting.ready = proof.is_ready();
        sitting.ready.then_some(sitting.generation)
    }

    /// Who is not ready, or may be so no longer by the time that it takes a place: whose that is, and whether it may listen on less.
    pub(super) fn unready(&self) -> impl Iterator<Item = (u32, Option<u32>, bool)> {
        let sitting = self.sitting.as_ref();
        let coming = self.coming.as_ref().and_then(|coming| {
            Some((coming.worker?, sitting.map(|sitting| sitting.worker), coming.may_listen_on_less()))
        });
        coming.into_iter().chain(sitting.filter(|sitting| !sitting.ready).map(|sitting| (sitting.worker, None, false)))
    }

    /// Somebody is to sit here, and nobody does.
    pub(super) fn awaits_somebody(&self) -> bool {
        self.is_wanted() && self.sitting.is_none()
    }

    pub(super) fn sits(&self, worker: u32) -> bool {
        self.sitting.as_ref().is_some_and(|sitting| sitting.worker == worker)
    }

    /// Who sits here, and who is on the way.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn workers(&self) -> impl Iterator<Item = u32> {
        let coming = self.coming.as_ref().and_then(|coming| coming.worker);
        self.sitting.as_ref().map(|sitting| sitting.worker).into_iter().chain(coming)
    }

    /// Somebody here was, is or is to be made by this recipe.
    pub(super) fn needs(&self, generation: Generation) -> bool {
        let coming = self.coming.as_ref().map(|coming| coming.generation);
        [self.generation, coming].contains(&Some(generation))
    }

    /// `Ok`: the one on the way can take its place; an error: why it never will.
    pub(super) fn judge(&self, now: Instant) -> Option<Result<(), String>> {
        self.coming.as_ref()?.judge(now)
    }

    pub(super) fn next_at(&self, now: Instant) -> Option<Instant> {
        let coming = self.coming.as_ref()?;
        coming.next_at().map(|at| if coming.is_ready() { at } else { at.min(now + LOOK) })
    }

    /// How many processes it has beyond the one that it is for.
    #[cfg(test)]
    pub(super) fn extra(&self) -> usize {
        usize::from(self.coming.is_some())
    }

    #[cfg(test)]
    pub(super) fn sitting(&self) -> Option<(u32, Generation)> {
        self.sitting.as_ref().map(|sitting| (sitting.worker, sitting.generation))
    }
}
