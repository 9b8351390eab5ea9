//! Each open slot in turn.

/// The rotation. It remembers the slot that was served last rather than a position, so that slots which come and go
/// do not give a neighbour two turns.
#[derive(Debug, Default)]
pub(crate) struct RoundRobin {
    last: Option<u32>,
}

impl RoundRobin {
    /// The index of the next open slot after the one served last, or `None` when no slot is open. A slot that is not
    /// open is passed over and catches nothing up later. `slots` is sorted.
    pub(crate) fn next(&self, slots: &[u32], mut is_open: impl FnMut(usize) -> bool) -> Option<usize> {
        self.order(slots).find(|index| is_open(*index))
    }

    /// The indices of all slots, that of the one whose turn it is first. `slots` is sorted.
    pub(super) fn order(&self, slots: &[u32]) -> impl Iterator<Item = usize> + use<> {
        let start = self.last.map_or(0, |last| slots.partition_point(|slot| *slot <= last));
        (start..slots.len()).chain(0..start)
    }

    /// The slot has had its turn. Apart from `next`, because whether there is a connection at all is known only after
    /// somebody is known who can take it.
    pub(crate) fn served(&mut self, slot: u32) {
        self.last = Some(slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    impl RoundRobin {
        fn pick(&mut self, slots: &[u32], is_open: impl FnMut(usize) -> bool) -> Option<usize> {
            let index = self.next(slots, is_open)?;
            self.served(slots[index]);
            Some(index)
        }
    }

    #[test]
    fn nobody_is_picked_when_nobody_is_open() {
        let mut rotation = RoundRobin::default();
        assert_eq!(rotation.pick(&[], |_| true), None);
        assert_eq!(rotation.pick(&[0, 1], |_| false), None);
        assert_eq!(rotation.pick(&[0, 1], |_| true), Some(0));
    }

    #[test]
    fn a_slot_that_leaves_gives_its_turn_to_the_next_only() {
        let mut rotation = RoundRobin::default();
        assert_eq!(rotation.pick(&[0, 1, 2], |_| true), Some(0));
        assert_eq!(rotation.pick(&[0, 2], |_| true), Some(1));
        assert_eq!(rotation.pick(&[0, 1, 2], |_| true), Some(0));
    }

    proptest! {
        #[test]
        fn any_window_is_exact_while_all_are_open(count in 1_usize..40, turns in 1_usize..400, start in 0_usize..40) {
            let slots: Vec<u32> = (0..count as u32).collect();
            let mut rotation = RoundRobin::default();
            for _ in 0..start {
                rotation.pick(&slots, |_| true);
            }
            let mut counts = vec![0_usize; count];
            for _ in 0..turns {
                counts[rotation.pick(&slots, |_| true).unwrap()] += 1;
            }
            let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
            prop_assert!(most - least <= 1);
        }

        #[test]
        fn only_open_slots_are_picked_and_an_open_one_always_is(slots in proptest::collection::btree_set(0_u32..64, 1..20),
                                                              open in proptest::collection::vec(any::<bool>(), 20), turns in 1_usize..60) {
            let slots: Vec<u32> = slots.into_iter().collect();
            let mut rotation = RoundRobin::default();
            for _ in 0..turns {
                match rotation.pick(&slots, |index| open[index]) {
                    Some(index) => prop_assert!(open[index]),
                    None => prop_assert!(!open[..slots.len()].contains(&true)),
                }
            }
        }
    }
}
