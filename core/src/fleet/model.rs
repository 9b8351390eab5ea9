//! Random lives of a fleet, and what holds in each of them whatever happens.

mod checks;
mod deeds;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use proptest::prelude::*;

use deeds::{Deed, Fate, deed};

use super::coming::{Proof, Terms, Why};
use super::run::Run;
use super::{Action, Bounds, Fleet, Generation, News, Order, Outcome, Phase, ReloadOptions, When};

/// A worker's process.
#[derive(Debug, Clone, Copy)]
struct Process {
    slot: u32,
    generation: Generation,
    leaving: bool,
    fate: Fate,
    closed: bool,
    /// Since when it has been seen to be ready.
    ready: Option<Instant>,
}

/// How long a worker has to live that is ready.
const ALIVE: Duration = Duration::from_millis(500);

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
    /// The slots that were, and have not been put back yet; the newest last.
    order: BTreeMap<Generation, Vec<u32>>,
    ended: BTreeMap<Generation, Outcome>,
    begun: BTreeSet<Generation>,
    /// Those that were not refused at once.
    accepted: BTreeSet<Generation>,
    /// Those whose workers stay when a later one fails.
    keeps: BTreeSet<Generation>,
    /// Somebody who was on the way was killed, could not be started, or closed its listener.
    meddled: bool,
    parallel: usize,
    /// By which somebody can be made: those that are not needed are thrown away.
    recipes: BTreeSet<Generation>,
    /// Slots whose worker is to be replaced, beside what a reload does.
    asked: BTreeSet<u32>,
    stopped: bool,
    /// So many cannot be started.
    short: usize,
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
            order: BTreeMap::new(),
            ended: BTreeMap::new(),
            begun: BTreeSet::new(),
            accepted: BTreeSet::new(),
            keeps: BTreeSet::new(),
            meddled: false,
            parallel: 1,
            recipes: BTreeSet::from([1]),
            asked: BTreeSet::new(),
            stopped: false,
            short: 0,
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
        self.processes
            .insert(self.last, Process { slot, generation, leaving: false, fate, closed: false, ready: None });
        self.last
    }

    fn act(&mut self) {
        while let Some(action) = self.fleet.next_action() {
            assert!(
                !self.stopped || !matches!(action, Action::Start { .. } | Action::Swap { .. } | Action::Replace { .. }),
                "{action:?}"
            );
            match action {
                Action::Start { slot, generation, beside, order } => {
                    self.check_start((slot, generation, order), beside);
                    self.orders.push_back((slot, generation, order));
                }
                Action::Swap { slot, old, new } => {
                    let process = self.processes[&new];
                    assert_eq!(
                        (process.slot, process.leaving, process.fate),
                        (slot, false, Fate::Good),
                        "{new} was not ready"
                    );
                    let ready = process.ready.expect("it listens still");
                    assert!(self.now >= ready + ALIVE, "{new} has lived {:?}", self.now - ready);
                    *self.swapped.entry(process.generation).or_default() += 1;
                    self.order.entry(process.generation).or_default().push(slot);
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
                Action::Tell(News::Reload { generation, phase, replaced, .. }) => {
                    if phase == Phase::Ended(Outcome::Done) {
                        let of = |slot: u32| self.fleet.slots[slot as usize].generation();
                        assert!(
                            self.fleet.wanted_slots().all(|slot| of(slot) == Some(generation)),
                            "every slot has one"
                        );
                        assert_eq!(replaced, self.fleet.size());
                    }
                    self.hear(generation, phase);
                }
                Action::Tell(_) => {}
            }
        }
    }

    fn hear(&mut self, generation: Generation, phase: Phase) {
        assert!(!self.ended.contains_key(&generation), "{generation} has ended already");
        match phase {
            Phase::Checking => {
                // It replaces them all.
                self.asked.clear();
                assert!(self.running().is_empty(), "{generation} begins, and others run: {:?}", self.running());
                assert!(self.begun.insert(generation));
            }
            Phase::Rolling => assert_eq!(self.swapped.get(&generation), Some(&1)),
            Phase::Ended(outcome) => {
                let swapped = self.swapped.contains_key(&generation);
                match outcome {
                    Outcome::RolledBack => assert!(swapped && !self.keeps.contains(&generation), "{generation}"),
                    Outcome::Done | Outcome::Refused | Outcome::Superseded => {}
                }
                self.ended.insert(generation, outcome);
            }
        }
    }

    fn running(&self) -> Vec<Generation> {
        self.begun.iter().filter(|generation| !self.ended.contains_key(generation)).copied().collect()
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
                _ if self.short > 0 => {
                    (self.short, self.meddled) = (self.short - 1, true);
                    Err("out of something".to_owned())
                }
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
            let process = self.processes.get_mut(&worker).expect("it is there");
            let good = process.fate == Fate::Good && !process.closed;
            process.ready = if good { process.ready.or(Some(self.now)) } else { None };
            let proof = match process.fate {
                Fate::Good => Proof { listens: !process.closed, ..Proof::default() },
                Fate::SaysNothing => Proof { listens: true, manual: true, said: Some(false), ..Proof::default() },
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
                let terms = Terms { ready: Some(Duration::from_secs(10)), alive: ALIVE, fewer: false };
                let (running, stopping) = (self.running(), self.stopped);
                let begun = self.fleet.reload(ReloadOptions { parallel, terms, when, keep });
                assert_eq!(begun.is_err(), stopping || (when == When::Idle && !running.is_empty()), "{when:?}");
                if let Ok(generation) = begun {
                    self.accepted.insert(generation);
                    self.recipes.insert(generation);
                    self.fates.insert(generation, fate);
                    if keep {
                        self.keeps.insert(generation);
                    }
                    self.parallel = self.parallel.max(parallel);
                }
                self.act();
                let superseded = |one: &&Generation| self.ended.get(one) == Some(&Outcome::Superseded);
                assert!(
                    when == When::AtOnce || !running.iter().any(|one| superseded(&one)),
                    "one that waits ends none"
                );
            }
            Deed::Scale(size) => {
                let before = self.fleet.size();
                self.fleet.scale(size);
                assert_eq!(self.fleet.size(), if self.stopped { before } else { size });
                let fleet = &self.fleet;
                let is_there = |slot: &u32| fleet.slots[*slot as usize].is_wanted();
                self.order.values_mut().for_each(|order| order.retain(is_there));
                self.asked.retain(is_there);
            }
            Deed::Restart(which) | Deed::Recycle(which) => {
                let why = if matches!(deed, Deed::Restart(_)) { Why::Restart } else { Why::Recycle };
                if let Some(worker) = self.sitting(which) {
                    let slot = self.processes[&worker].slot;
                    let swapping = self.fleet.slots[slot as usize].is_being_swapped();
                    let replaced = self.fleet.replace(worker, why);
                    assert!(replaced.is_err() || !swapping, "slot {slot} is being swapped");
                    self.asked.extend(replaced.is_ok().then_some(slot));
                }
            }
            Deed::Crash(which, short) => {
                let all: Vec<u32> = self.processes.keys().copied().collect();
                if !all.is_empty() {
                    let worker = all[which % all.len()];
                    self.meddled |= self.fleet.slots.iter().any(|slot| slot.is_coming(worker));
                    let failed = if short { self.swapped_of_late(worker) } else { None };
                    self.end(worker, short);
                    let goes_on = |run: &Run| Some(run.generation) == failed && run.back.is_none();
                    assert!(
                        !self.fleet.run.as_ref().is_some_and(goes_on),
                        "{worker} has failed, and nothing comes of it"
                    );
                }
            }
            Deed::Cancel => {
                self.fleet.cancel("it was cancelled");
                self.asked.clear();
                self.act();
                assert!(self.accepted.iter().all(|generation| self.ended.contains_key(generation)), "nothing waits");
            }
            Deed::Drain => {
                let leaving: Vec<u32> =
                    self.processes.iter().filter(|(_, process)| process.leaving).map(|(worker, _)| *worker).collect();
                leaving.into_iter().for_each(|worker| self.end(worker, false));
            }
            Deed::Shortage(count) => self.short = count,
            Deed::Close(which) => {
                let all: Vec<u32> = self.processes.keys().copied().collect();
                if let Some(process) = all.get(which % all.len().max(1)).and_then(|one| self.processes.get_mut(one)) {
                    (process.closed, self.meddled) = (!process.closed, true);
                }
            }
            Deed::Pass(ms) => self.now += Duration::from_millis(ms),
        }
        self.act();
        self.fleet.tick(self.now);
        self.act();
        self.live();
        let fleet = &self.fleet;
        self.recipes.retain(|generation| fleet.needs(*generation));
        self.check();
    }

    /// Until nothing more happens.
    fn settle(&mut self) {
        for _ in 0..200 {
            self.deed(&Deed::Pass(500));
            self.deed(&Deed::Drain);
        }
        assert!(self.fleet.run.is_none() && self.fleet.queued.is_none(), "it goes on for ever");
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
    fn a_stop_wins(
        slots in 1..6_u32,
        deeds in proptest::collection::vec(deed(), 1..20),
        last in 0..9_usize,
        after in proptest::collection::vec(deed(), 1..10)
    ) {
        let mut world = World::new(slots);
        deeds.iter().for_each(|deed| world.deed(deed));
        // What is asked just before it was not carried out yet.
        world.fleet.scale(last);
        if let Ok(generation) = world.fleet.reload(ReloadOptions::default()) {
            world.accepted.insert(generation);
            world.recipes.insert(generation);
            world.fates.insert(generation, Fate::Good);
        }
        world.fleet.stop();
        world.stopped = true;
        world.act();
        world.live();
        after.iter().for_each(|deed| world.deed(deed));
        // A back-off is over.
        (0..9).for_each(|slot| world.fleet.replace_now(slot));
        world.act();
        prop_assert!(world.accepted.iter().all(|generation| world.ended.contains_key(generation)));
    }
}
