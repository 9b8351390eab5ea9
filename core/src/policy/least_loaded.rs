//! The open slot with the least load.
//!
//! What a worker tells of its load is old when it is used: whoever was the least then is not after a few connections. So
//! two newer things are counted with it, both of which the primary knows itself: that a worker has connections waiting
//! (it is busy now, whatever it told), and how many it was given since it told. docs/design/policies.md has the figures.

use std::time::{Duration, Instant};

use super::RoundRobin;

/// What a worker told last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Told {
    /// In a unit of the workers' own, in which a connection is about 1 or more.
    pub(crate) load: u32,
    /// Another value whenever it has told, also the same load again.
    pub(crate) reports: u32,
}

/// For how long a connection counts that a worker was given and has told nothing since. Without an end, a worker that told
/// once would look the more loaded the longer it lives, and a new one would get everything.
const REMEMBERED: Duration = Duration::from_secs(1);

/// What is known of the load of one member.
#[derive(Debug, Clone, Default)]
pub(crate) struct Load {
    waiting: u32,
    told: Told,
    told_at: Option<Instant>,
    /// Connections that the load which was told cannot know of.
    unseen: u32,
}

/// A place in the order; the least gets the next connection. First by what waits: a worker that has not taken what it was
/// given is busy, and its load, told before, does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Burden {
    waiting: u32,
    load: u64,
}

impl Load {
    /// A turn of the primary begins. Within one, what waits is not counted anew: what was given a moment ago waits in
    /// every mailbox.
    pub(crate) fn look(&mut self, told: Told, waiting: u32, now: Instant) {
        self.waiting = waiting;
        if told.reports != self.told.reports {
            self.told = told;
            self.told_at = Some(now);
            self.unseen = waiting;
        } else if self.told_at.is_none_or(|at| now.saturating_duration_since(at) >= REMEMBERED) {
            self.unseen = waiting;
        }
    }

    /// It is given a connection.
    pub(crate) fn give(&mut self) {
        self.unseen = self.unseen.saturating_add(1);
    }

    pub(crate) fn burden(&self) -> Burden {
        Burden { waiting: self.waiting, load: u64::from(self.told.load) + u64::from(self.unseen) }
    }
}

/// The choice, each in turn among equals.
#[derive(Debug, Default)]
pub(crate) struct LeastLoaded {
    rotation: RoundRobin,
}

impl LeastLoaded {
    /// The index of the open slot with the least burden, the first after the one served last where several have it, or
    /// `None` when no slot is open. `burden` gives none for a slot that is not open; `slots` is sorted.
    pub(crate) fn next(&self, slots: &[u32], mut burden: impl FnMut(usize) -> Option<Burden>) -> Option<usize> {
        // min_by_key takes the first of equals.
        let open = self.rotation.order(slots).filter_map(|index| Some((index, burden(index)?)));
        open.min_by_key(|(_, burden)| *burden).map(|(index, _)| index)
    }

    /// The slot has got a connection.
    pub(crate) fn served(&mut self, slot: u32) {
        self.rotation.served(slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Members that are all open, and whose worker takes what it is given when `take` says so.
    struct Members {
        policy: LeastLoaded,
        slots: Vec<u32>,
        loads: Vec<Load>,
        waiting: Vec<u32>,
        told: Vec<Told>,
        now: Instant,
    }

    impl Members {
        fn new(count: usize) -> Self {
            Self {
                policy: LeastLoaded::default(),
                slots: (0..count as u32).collect(),
                loads: vec![Load::default(); count],
                waiting: vec![0; count],
                told: vec![Told::default(); count],
                now: Instant::now(),
            }
        }

        fn tell(&mut self, index: usize, load: u32) {
            self.told[index] = Told { load, reports: self.told[index].reports + 1 };
        }

        /// One turn in which so many connections come; how many each member got.
        fn turn(&mut self, connections: usize) -> Vec<u32> {
            for (index, load) in self.loads.iter_mut().enumerate() {
                load.look(self.told[index], self.waiting[index], self.now);
            }
            let mut got = vec![0; self.slots.len()];
            for _ in 0..connections {
                let index = self.policy.next(&self.slots, |index| Some(self.loads[index].burden())).unwrap();
                self.policy.served(self.slots[index]);
                self.loads[index].give();
                got[index] += 1;
            }
            got
        }
    }

    #[test]
    fn the_least_load_wins_until_what_it_was_given_makes_up_for_it() {
        let mut members = Members::new(3);
        members.tell(0, 100);
        members.tell(1, 0);
        members.tell(2, 100);
        assert_eq!(members.turn(100), [0, 100, 0]);
        assert_eq!(members.turn(9), [3, 3, 3], "all are at 100 now");
        members.tell(1, 0);
        assert_eq!(members.turn(5), [0, 5, 0], "and told again");
    }

    #[test]
    fn who_has_something_waiting_comes_after_who_has_nothing() {
        let mut members = Members::new(2);
        members.tell(0, 0);
        members.tell(1, 50);
        members.waiting = vec![1, 0];
        assert_eq!(members.turn(4), [0, 4]);
        members.waiting = vec![1, 1];
        assert_eq!(members.turn(4), [4, 0]);
    }

    #[test]
    fn a_new_worker_does_not_catch_up_with_those_that_told_once() {
        let mut members = Members::new(3);
        members.tell(0, 0);
        members.tell(1, 0);
        members.turn(1000);
        members.now += REMEMBERED;
        assert_eq!(members.turn(9), [3, 3, 3]);
    }

    #[test]
    fn closed_ones_are_passed_over() {
        let policy = LeastLoaded::default();
        let burden = |load| Some(Burden { waiting: 0, load });
        assert_eq!(policy.next(&[0, 1, 2], |index| if index == 1 { burden(9) } else { None }), Some(1));
        assert_eq!(policy.next(&[0, 1, 2], |_| None), None);
        assert_eq!(policy.next(&[], |_| burden(0)), None);
    }

    proptest! {
        #[test]
        fn equals_have_their_turns(count in 1_usize..40, turns in 1_usize..200) {
            let got = Members::new(count).turn(turns);
            prop_assert!(got.iter().max().unwrap() - got.iter().min().unwrap() <= 1);
        }

        #[test]
        fn a_burst_levels_the_loads(loads in proptest::collection::vec(0_u32..200, 2..20), burst in 1_usize..500) {
            let mut members = Members::new(loads.len());
            for (index, load) in loads.iter().enumerate() {
                members.tell(index, *load);
            }
            let got = members.turn(burst);
            // Nobody was given one while another would have had less with it.
            for (index, given) in got.iter().enumerate().filter(|(_, given)| **given > 0) {
                for (other, load) in loads.iter().enumerate() {
                    prop_assert!(loads[index] + given - 1 <= load + got[other]);
                }
            }
        }

        #[test]
        fn only_the_least_of_the_open_is_chosen(burdens in proptest::collection::vec((any::<bool>(), 0_u32..4, 0_u64..4), 1..30)) {
            let slots: Vec<u32> = (0..burdens.len() as u32).collect();
            let of = |index: usize| {
                let (open, waiting, load): (bool, u32, u64) = burdens[index];
                open.then_some(Burden { waiting, load })
            };
            let least = (0..burdens.len()).filter_map(of).min();
            prop_assert_eq!(LeastLoaded::default().next(&slots, of).and_then(of), least);
        }
    }
}
