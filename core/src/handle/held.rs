//! Connections that the primary holds because the one slot they belong to has no room.

use std::collections::{BTreeMap, VecDeque};

/// The most that a handle holds. With as many the primary stops accepting, and the kernel's backlog holds the rest.
pub(crate) const HELD_MAX: usize = 256;

/// By slot, each slot's in the order in which they came.
#[derive(Debug)]
pub(crate) struct Held<T> {
    by_slot: BTreeMap<u32, VecDeque<T>>,
    count: usize,
}

impl<T> Default for Held<T> {
    fn default() -> Self {
        Self { by_slot: BTreeMap::new(), count: 0 }
    }
}

impl<T> Held<T> {
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    pub(crate) fn of(&self, slot: u32) -> usize {
        self.by_slot.get(&slot).map_or(0, VecDeque::len)
    }

    /// The slots for which something is held.
    pub(crate) fn slots(&self) -> impl Iterator<Item = u32> {
        self.by_slot.keys().copied()
    }

    pub(crate) fn push(&mut self, slot: u32, held: T) {
        self.by_slot.entry(slot).or_default().push_back(held);
        self.count += 1;
    }

    /// The oldest of a slot.
    pub(crate) fn pop(&mut self, slot: u32) -> Option<T> {
        let held = self.by_slot.get_mut(&slot)?;
        let oldest = held.pop_front();
        if held.is_empty() {
            self.by_slot.remove(&slot);
        }
        self.count -= usize::from(oldest.is_some());
        oldest
    }

    /// Everything of the slots that are not to be served any more.
    pub(crate) fn release(&mut self, is_gone: impl Fn(u32) -> bool) -> Vec<T> {
        let gone: Vec<u32> = self.slots().filter(|slot| is_gone(*slot)).collect();
        let released: Vec<T> = gone.iter().filter_map(|slot| self.by_slot.remove(slot)).flatten().collect();
        self.count -= released.len();
        released
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn nothing_is_lost_and_each_slot_keeps_its_order(steps in proptest::collection::vec((0_u32..4, 0_u8..8), 0..200)) {
            let mut held = Held::default();
            let mut model: BTreeMap<u32, VecDeque<usize>> = BTreeMap::new();
            for (number, (slot, step)) in steps.into_iter().enumerate() {
                match step {
                    0 => {
                        let released = held.release(|one| one <= slot);
                        let kept = model.split_off(&(slot + 1));
                        let wanted: Vec<usize> = std::mem::replace(&mut model, kept).into_values().flatten().collect();
                        prop_assert_eq!(released, wanted);
                    }
                    1..=3 => {
                        let queue = model.entry(slot).or_default();
                        prop_assert_eq!(held.pop(slot), queue.pop_front());
                    }
                    _ => {
                        held.push(slot, number);
                        model.entry(slot).or_default().push_back(number);
                    }
                }
                model.retain(|_, queue| !queue.is_empty());
                prop_assert_eq!(held.len(), model.values().map(VecDeque::len).sum::<usize>());
                prop_assert_eq!(held.slots().collect::<Vec<_>>(), model.keys().copied().collect::<Vec<_>>());
                prop_assert_eq!(held.of(slot), model.get(&slot).map_or(0, VecDeque::len));
            }
        }
    }
}
