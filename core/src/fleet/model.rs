//! Random lives of a fleet, and what holds in each of them whatever happens.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::coming::{Proof, Terms, Why};
use super::{Action, Bounds, Fleet, Generation, News, Order, Outcome, Phase, ReloadOptions, When};

#[derive(Debug, Clone)]
enum Deed {
    Reload {
        parallel: usize,
        when: When,
        keep: bool,
        fate: Fate,
    },
    Scale(usize),
    Restart(usize),
    Recycle(usize),
    Crash(usize, bool),
    /// Those who leave do so.
    Drain,
    Pass(u64),
}

/// What becomes of the workers of a generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Good,
    CannotStart,
    Exits,
    Hangs,
    ListensOnLess,
    /// All but the first few are good.
    FailsAfter(u32),
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        4 => Just(Fate::Good),
        1 => Just(Fate::CannotStart),
        1 => Just(Fate::Exits),
        1 => Just(Fate::Hangs),
        1 => Just(Fate::ListensOnLess),
        2 => (1..4_u32).prop_map(Fate::FailsAfter),
    ]
}

fn deed() -> impl Strategy<Value = Deed> {
    let when = prop_oneof![4 => Just(When::AtOnce), 1 => Just(When::Later), 1 => Just(When::Idle)];
    prop_oneof![
        3 => (1..4_usize, when, any::<bool>(), fate()).prop_map(|(parallel, when, keep, fate)| Deed::Reload { parallel, when, keep, fate }),
        2 => (0..9_usize).prop_map(Deed::Scale),
        2 => (0..9_usize).prop_map(Deed::Restart),
        1 => (0..9_usize).prop_map(Deed::Recycle),
        2 => (0..9_usize, any::<bool>()).prop_map(|(which, short)| Deed::Crash(which, short)),
        2 => Just(Deed::Drain),
        8 => (1..2000_u64).prop_map(Deed::Pass),
    ]
}

/// A worker's process.
#[derive(Debug, Clone, Copy)]
struct Process {
    slot: u32,
    generation: Generation,
    leaving: bool,
    fate: Fate,
}

struct World {
    fleet: Fleet,
    now: Instant,
    processes: BTreeMap<u32, Process>,
    last: u32,
    fates: BTreeMap<Generation, Fate>,
    made: BTreeMap<Generation, u32>,
    orders: VecDeque<(u32, Generation, Order)>,
    /// Slots whose replacement is due.
    due: BTreeSet<u32>,
    swapped: BTreeMap<Generation, u32>,
    ended: BTreeMap<Generation, Outcome>,
    begun: BTreeSet<Generation>,
    /// Those whose workers stay when a later one fails.
    keeps: BTreeSet<Generation>,
    /// Somebody who was on the way was killed.
    meddled: bool,
    parallel: usize,
    stopped: bool,
}

impl World {
    fn new(slots: u32) -> Self {
        let mut world = Self {
            fleet: Fleet::new(Bounds::default()),
            now: Instant::now(),
            processes: BTreeMap::new(),
            last: 0,
            fates: BTreeMap::from([(1, Fate::Good)]),
            made: BTreeMap::new(),
            orders: VecDeque::new(),
            due: BTreeSet::new(),
            swapped: BTreeMap::new(),
            ended: BTreeMap::new(),
            begun: BTreeSet::new(),
            keeps: BTreeSet::new(),
            meddled: false,
            parallel: 1,
            stopped: false,
        };
        for slot in 0..slots {
            let worker = world.make(slot, 1);
            world.fleet.seat(slot, worker);
        }
        world
    }

    fn make(&mut self, slot: u32, generation: Generation) -> u32 {
        self.last += 1;
        let made = self.made.entry(generation).or_default();
        *made += 1;
        let fate = match self.fates[&generation] {
            Fate::FailsAfter(few) if *made > few => Fate::Exits,
            Fate::FailsAfter(_) => Fate::Good,
            fate => fate,
        };
        self.processes.insert(self.last, Process { slot, generation, leaving: false, fate });
        self.last
    }

    fn act(&mut self) {
        while let Some(action) = self.fleet.next_action() {
            assert!(
                !self.stopped || !matches!(action, Action::Start { .. } | Action::Swap { .. } | Action::Replace { .. }),
                "{action:?}"
            );
            match action {
                Action::Start { slot, generation, order, .. } => self.orders.push_back((slot, generation, order)),
                Action::Swap { slot, old, new } => {
                    let process = self.processes[&new];
                    assert_eq!(
                        (process.slot, process.leaving, process.fate),
                        (slot, false, Fate::Good),
                        "{new} was not ready"
                    );
                    *self.swapped.entry(process.generation).or_default() += 1;
                    if let Some(old) = old {
                        self.leave(old);
                    }
                }
                Action::Retire { worker } => self.leave(worker),
                Action::Hasten { worker } => {
                    assert!(self.processes[&worker].leaving);
                    self.end(worker, false);
                }
                Action::Replace { slot } => {
                    self.due.insert(slot);
                }
                Action::Tell(News::Reload { generation, phase, .. }) => self.hear(generation, phase),
                Action::Tell(_) => {}
            }
        }
    }

    fn hear(&mut self, generation: Generation, phase: Phase) {
        assert!(!self.ended.contains_key(&generation), "{generation} has ended already");
        match phase {
            Phase::Checking => assert!(self.begun.insert(generation)),
            Phase::Rolling => assert_eq!(self.swapped.get(&generation), Some(&1)),
            Phase::Ended(outcome) => {
                self.ended.insert(generation, outcome);
            }
        }
    }

    fn leave(&mut self, worker: u32) {
        let process = self.processes.get_mut(&worker).expect("it is there");
        assert!(!process.leaving, "worker {worker} was told to leave twice");
        process.leaving = true;
    }

    fn end(&mut self, worker: u32, short: bool) {
        self.processes.remove(&worker);
        self.fleet.ended(worker, short, "was killed");
    }

    /// What was ordered is made, and what is seen is told.
    fn live(&mut self) {
        while let Some((slot, generation, order)) = self.orders.pop_front() {
            let made = match self.fates[&generation] {
                Fate::CannotStart => Err("no such file".to_owned()),
                _ => Ok(self.make(slot, generation)),
            };
            self.fleet.started(order, made, self.now);
            self.act();
        }
        let ends: Vec<u32> = self
            .processes
            .iter()
            .filter(|(_, process)| process.fate == Fate::Exits)
            .map(|(worker, _)| *worker)
            .collect();
        for worker in ends {
            self.end(worker, true);
            self.act();
        }
        let unready: Vec<(u32, Option<u32>, bool)> = self.fleet.unready().collect();
        for (worker, ..) in unready {
            let proof = match self.processes[&worker].fate {
                Fate::Good => Proof { listens: true, ..Proof::default() },
                Fate::ListensOnLess => Proof { listens: true, missing: Some("tcp:1".to_owned()), ..Proof::default() },
                _ => Proof::default(),
            };
            self.fleet.observe(worker, &proof, self.now);
            self.act();
        }
        for slot in std::mem::take(&mut self.due) {
            self.fleet.replace_now(slot);
            self.act();
        }
    }

    fn sitting(&self, which: usize) -> Option<u32> {
        let all: Vec<u32> = self.fleet.slots.iter().filter_map(|slot| Some(slot.sitting()?.0)).collect();
        (!all.is_empty()).then(|| all[which % all.len()])
    }

    fn deed(&mut self, deed: &Deed) {
        match *deed {
            Deed::Reload { parallel, when, keep, fate } => {
                let terms =
                    Terms { ready: Some(Duration::from_secs(10)), alive: Duration::from_millis(500), fewer: false };
                if let Ok(generation) = self.fleet.reload(ReloadOptions { parallel, terms, when, keep }) {
                    self.fates.insert(generation, fate);
                    if keep {
                        self.keeps.insert(generation);
                    }
                    self.parallel = self.parallel.max(parallel);
                }
            }
            Deed::Scale(size) => self.fleet.scale(size),
            Deed::Restart(which) | Deed::Recycle(which) => {
                let why = if matches!(deed, Deed::Restart(_)) { Why::Restart } else { Why::Recycle };
                if let Some(worker) = self.sitting(which) {
                    let _ = self.fleet.replace(worker, why);
                }
            }
            Deed::Crash(which, short) => {
                let all: Vec<u32> = self.processes.keys().copied().collect();
                if !all.is_empty() {
                    let worker = all[which % all.len()];
                    self.meddled |= self.fleet.slots.iter().any(|slot| slot.is_coming(worker));
                    self.end(worker, short);
                }
            }
            Deed::Drain => {
                let leaving: Vec<u32> =
                    self.processes.iter().filter(|(_, process)| process.leaving).map(|(worker, _)| *worker).collect();
                leaving.into_iter().for_each(|worker| self.end(worker, false));
            }
            Deed::Pass(ms) => self.now += Duration::from_millis(ms),
        }
        self.act();
        self.fleet.tick(self.now);
        self.act();
        self.live();
        self.check();
    }

    fn check(&self) {
        let extra: usize = self.fleet.slots.iter().map(|slot| slot.extra()).sum();
        assert!(extra <= self.parallel + 1, "{extra} workers are on their way");
        assert!(self.stopped || self.fleet.drainers.patient() <= self.fleet.slots.len());
        for (worker, process) in &self.processes {
            let known = self.fleet.slots[process.slot as usize].has(*worker);
            assert!(known != process.leaving, "worker {worker} {process:?}");
        }
    }

    /// Until nothing more happens.
    fn settle(&mut self) {
        for _ in 0..200 {
            self.deed(&Deed::Pass(500));
            self.deed(&Deed::Drain);
        }
        assert!(self.fleet.run.is_none() && self.fleet.queued.is_none(), "it goes on for ever");
    }

    fn check_at_rest(&self) {
        for (index, slot) in self.fleet.slots.iter().enumerate() {
            let fails = |generation: Option<Generation>| {
                generation.is_some_and(|generation| self.fates[&generation] != Fate::Good)
            };
            assert!(
                slot.sitting().is_some() == slot.is_wanted() || fails(slot.generation()),
                "slot {index} has nobody, or one too many"
            );
        }
        for generation in &self.begun {
            let outcome = self.ended.get(generation).expect("it has ended");
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn nothing_is_left_over(slots in 1..6_u32, deeds in proptest::collection::vec(deed(), 1..40)) {
        let mut world = World::new(slots);
        deeds.iter().for_each(|deed| world.deed(deed));
        world.settle();
        world.check_at_rest();
    }

    #[test]
    fn a_stop_wins(slots in 1..6_u32, deeds in proptest::collection::vec(deed(), 1..20), after in proptest::collection::vec(deed(), 1..10)) {
        let mut world = World::new(slots);
        deeds.iter().for_each(|deed| world.deed(deed));
        world.fleet.stop();
        world.stopped = true;
        world.due.clear();
        world.act();
        world.live();
        after.iter().for_each(|deed| world.deed(deed));
        prop_assert!(world.begun.iter().all(|generation| world.ended.contains_key(generation)));
    }
}
