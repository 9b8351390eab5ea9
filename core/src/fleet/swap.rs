//! One worker takes the place of another.

use super::Fleet;
use super::action::{Action, Generation, News};
use super::coming::{Coming, Terms, Why};
use super::slot::Slot;

/// Why a worker is not replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotNow {
    /// There is no such worker, or it is leaving.
    Gone,
    /// It is being replaced, or is about to be.
    Swapping,
    Stop,
}

impl Fleet {
    /// Replaces one worker by another of the same recipe.
    pub(crate) fn replace(&mut self, worker: u32, why: Why) -> Result<(), NotNow> {
        if self.stopping {
            return Err(NotNow::Stop);
        }
        let slot = self.indices().find(|slot| self.slots[*slot as usize].has(worker)).ok_or(NotNow::Gone)?;
        let swapping = self.slots[slot as usize].is_being_swapped()
            || self.wanted.iter().any(|(other, _)| *other == slot)
            || self.run.as_ref().is_some_and(|run| run.is_to_swap(slot));
        if swapping {
            return Err(NotNow::Swapping);
        }
        self.wanted.push_back((slot, why));
        self.go_on();
        Ok(())
    }

    /// A worker for a slot is to be made, beside whoever sits there.
    pub(super) fn send_for(&mut self, slot: u32, (why, generation, terms): (Why, Generation, Terms)) {
        let order = self.next_order();
        let Some(place) = self.slot(slot).filter(|place| place.is_wanted()) else { return };
        // One that is on its way there already is overtaken, also by a restart.
        let overtaken = place.take_coming().and_then(|coming| coming.worker);
        place.stop_waiting();
        place.expect(Coming::new(why, generation, terms, order));
        self.actions.push_back(Action::Start { slot, generation, beside: true, order });
        overtaken.into_iter().for_each(|worker| self.retire(worker));
    }

    /// It is ready.
    pub(super) fn swap(&mut self, slot: u32) {
        let place = &mut self.slots[slot as usize];
        let before = place.generation();
        let Some((old, new, generation, why)) = place.swap() else { return };
        self.actions.push_back(Action::Swap { slot, old, new });
        old.into_iter().for_each(|old| self.drainers.add(old));
        if why == Why::Recycle {
            self.actions.push_back(Action::Tell(News::Recycled { worker: new, generation }));
        }
        self.note_swapped(slot, before.unwrap_or(generation), why);
    }

    /// It will never be ready, or has ended.
    pub(super) fn fail(&mut self, slot: u32, reason: &str) {
        let Some(coming) = self.slot(slot).and_then(Slot::take_coming) else { return };
        coming.worker.into_iter().for_each(|worker| self.retire(worker));
        match coming.why {
            Why::Reload => self.give_up(reason),
            Why::Rollback => self.note_not_back(reason),
            Why::Restart | Why::Recycle => {
                let reason = reason.to_owned();
                self.actions.push_back(Action::Tell(News::Kept { slot, reason }));
            }
        }
        self.want_replacement(slot);
    }

    /// Those who are on the way for such a reason are not wanted any more.
    pub(super) fn drop_comings(&mut self, meant: impl Fn(Why) -> bool) {
        for slot in self.indices() {
            let place = &mut self.slots[slot as usize];
            if !place.coming_mut().is_some_and(|coming| meant(coming.why)) {
                continue;
            }
            let dropped = place.take_coming().and_then(|coming| coming.worker);
            dropped.into_iter().for_each(|worker| self.retire(worker));
            self.want_replacement(slot);
        }
    }

    pub(super) fn go_on(&mut self) {
        self.at_rest = false;
        if self.stopping {
            return;
        }
        self.go_on_with_run();
        if self.run.is_none() {
            self.go_on_with_wanted();
        }
        let most = self.bounds.draining.unwrap_or(self.slots.len());
        while let Some(worker) = self.drainers.take_over_due(most) {
            self.actions.push_back(Action::Hasten { worker });
        }
    }

    fn go_on_with_wanted(&mut self) {
        while !self.wanted.is_empty() {
            let busy = self.slots.iter().filter(|slot| slot.is_being_swapped()).count();
            if busy >= self.bounds.at_a_time.max(1) {
                return;
            }
            let Some((slot, why)) = self.wanted.pop_front() else { return };
            let place = &self.slots[slot as usize];
            if let (Some(generation), true) = (place.generation(), place.is_taken()) {
                self.send_for(slot, (why, generation, Terms::default()));
            }
        }
    }
}
