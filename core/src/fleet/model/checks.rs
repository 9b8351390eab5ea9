//! What holds at any time, and what at the end.

use super::World;
use super::deeds::Fate;
use crate::fleet::{Generation, Order, Outcome};

impl World {
    /// Somebody is to be made for a slot.
    pub(super) fn check_start(&mut self, (slot, generation, order): (u32, Generation, Order), beside: bool) {
        assert!(self.recipes.contains(&generation), "nothing says how workers of {generation} are made");
        let coming = self.fleet.slots[slot as usize].coming_mut();
        if !beside {
            assert!(!coming.is_some_and(|coming| coming.is_made_by(order)), "it is to get no turns before its swap");
            return;
        }
        let Some(running) = self.running().pop() else {
            assert!(self.asked.remove(&slot), "nobody has asked for another in slot {slot}");
            return;
        };
        let order = self.order.entry(running).or_default();
        if generation < running {
            assert_eq!(order.pop(), Some(slot), "what was swapped is put back, the newest first");
        } else {
            assert!(!order.contains(&slot), "slot {slot} was swapped already");
        }
    }

    /// The reload that runs, if this worker has taken its place for that.
    pub(super) fn swapped_of_late(&self, worker: u32) -> Option<Generation> {
        let (running, process) = (self.running().pop()?, &self.processes[&worker]);
        let swapped = self.order.get(&running).is_some_and(|order| order.contains(&process.slot));
        let sits = self.fleet.sits(worker);
        (swapped && sits && process.generation == running).then_some(running)
    }

    pub(super) fn check(&self) {
        let back = self.fleet.goes_back_to();
        assert!(back.is_none_or(|back| self.recipes.contains(&back)), "nobody can go back to {back:?}");
        let extra: usize = self.fleet.slots.iter().map(|slot| slot.extra()).sum();
        assert!(extra <= self.parallel + 1, "{extra} workers are on their way");
        assert!(self.stopped || self.fleet.drainers.patient() <= self.fleet.slots.len());
        for (worker, process) in &self.processes {
            let known = self.fleet.slots[process.slot as usize].has(*worker);
            assert!(known != process.leaving, "worker {worker} {process:?}");
            assert!(known || self.fleet.drainers.workers().any(|one| one == *worker), "worker {worker} {process:?}");
        }
    }

    pub(super) fn check_at_rest(&self) {
        for (index, slot) in self.fleet.slots.iter().enumerate() {
            let fails = |generation: Option<Generation>| {
                generation.is_some_and(|generation| self.fates[&generation] != Fate::Good)
            };
            assert!(
                slot.sitting().is_some() == slot.is_wanted() || fails(slot.generation()),
                "slot {index} has nobody, or one too many"
            );
        }
        for generation in &self.accepted {
            let outcome = self.ended.get(generation).expect("it has ended");
            assert!(*outcome == Outcome::Superseded || self.begun.contains(generation), "{generation} never began");
            if *outcome == Outcome::Refused {
                let kept = self.swapped.get(generation).copied().unwrap_or(0);
                assert!(
                    kept == 0 || self.keeps.contains(generation),
                    "{generation} was refused, and {kept} are swapped"
                );
            }
            // The way back ends at workers who can be made.
            if *outcome == Outcome::RolledBack && self.fates.values().all(|fate| *fate != Fate::CannotStart) {
                let back = self.fleet.slots.iter().filter_map(|slot| slot.sitting());
                let left = back.filter(|(_, of)| of == generation).count();
                let earlier = self.fates.range(..generation).all(|(_, fate)| *fate == Fate::Good);
                assert!(left == 0 || !earlier || self.meddled, "{generation} was rolled back, and {left} have stayed");
            }
        }
    }
}
