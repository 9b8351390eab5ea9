//! An imagined line at an address in rotation, in an imagined time: who is asleep there is woken in its order, as the kernel does it, and
//! the primary looks when `Rousing` and `Attention` say so.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;

use crate::handle::AUDIT;
use crate::handle::attention::Attention;
use crate::handle::rousing::Rousing;
use crate::tally::{Part, Tally};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Now {
    Asleep,
    Woken,
    /// Serves somebody until then.
    Busy(u64),
    Gone,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Honest,
    /// Sleeps on when it is woken.
    Sleeper,
    /// Dies when it is woken.
    Mortal,
}

struct One {
    part: Part,
    /// 1, or as many as the primary stands for.
    parts: u32,
    now: Now,
    kind: Kind,
    served: u64,
}

/// Times are in milliseconds.
struct World {
    time: u64,
    begin: Instant,
    tally: Tally,
    all: Vec<One>,
    /// Their places, the first in front.
    line: VecDeque<usize>,
    waiting: usize,
    work: u64,
    rousing: Rousing,
    attention: Attention,
    audit_at: Option<u64>,
    /// For how long somebody has waited while an honest one slept.
    neglect: u64,
}

impl World {
    fn new(parts: &[(u32, Kind)], work: u64) -> Self {
        let mut tally = Tally::new().unwrap();
        tally.share_among(parts.iter().map(|(parts, _)| parts).sum());
        let one = |(parts, kind): &(u32, Kind)| {
            let part = tally.own_part().unwrap();
            One { part, parts: *parts, now: Now::Asleep, kind: *kind, served: 0 }
        };
        let all: Vec<One> = parts.iter().map(one).collect();
        Self {
            time: 0,
            begin: Instant::now(),
            line: (0..all.len()).collect(),
            all,
            tally,
            waiting: 0,
            work,
            rousing: Rousing::default(),
            attention: Attention::default(),
            audit_at: Some(AUDIT.as_millis() as u64),
            neglect: 0,
        }
    }

    fn instant(&self) -> Instant {
        self.begin + Duration::from_millis(self.time)
    }

    fn come(&mut self) {
        self.waiting += 1;
        if let Some(first) = self.line.iter().find(|one| self.all[**one].now == Now::Asleep) {
            self.all[*first].now = Now::Woken;
        }
        if !self.attention.is_awake() {
            self.attention.announced(self.tally.taken(), self.instant());
            self.audit_at = Some(self.time + AUDIT.as_millis() as u64);
            self.rousing.suspect(self.tally.taken(), self.instant());
        }
    }

    fn act(&mut self, who: usize) {
        let one = &mut self.all[who];
        match (one.now, one.kind) {
            (Now::Woken, Kind::Sleeper) => one.now = Now::Asleep,
            (Now::Woken, Kind::Mortal) => {
                one.now = Now::Gone;
                self.line.retain(|place| *place != who);
                self.rousing.begin(self.begin + Duration::from_millis(self.time));
            }
            (Now::Busy(until), _) if until > self.time => {}
            (Now::Woken | Now::Busy(_), _) if self.waiting == 0 => one.now = Now::Asleep,
            (Now::Woken | Now::Busy(_), _) => {
                self.waiting -= 1;
                one.served += 1;
                one.now = Now::Busy(self.time + self.work);
                if one.part.took(one.parts) {
                    self.line.retain(|place| *place != who);
                    self.line.push_back(who);
                }
            }
            (Now::Asleep | Now::Gone, _) => {}
        }
    }

    fn look(&mut self) {
        let (taken, now) = (self.tally.taken(), self.instant());
        if self.audit_at.is_some_and(|at| at <= self.time) {
            let again = self.attention.audited(taken, true, true);
            self.audit_at = again.map(|again| self.time + again.as_millis() as u64);
            if self.waiting > 0 {
                self.rousing.suspect(taken, now);
            }
        }
        if self.rousing.is_due(now) && self.rousing.look(self.waiting > 0, taken, now) {
            self.all.iter_mut().filter(|one| one.now == Now::Asleep).for_each(|one| one.now = Now::Woken);
        }
    }

    /// A millisecond goes by, in which so many come.
    fn tick(&mut self, coming: usize) {
        self.time += 1;
        (0..coming).for_each(|_| self.come());
        (0..self.all.len()).for_each(|who| self.act(who));
        self.look();
        let idle = self.all.iter().any(|one| one.kind == Kind::Honest && one.now == Now::Asleep);
        let some_are_awake = self.all.iter().any(|one| one.now == Now::Woken && one.kind != Kind::Sleeper);
        self.neglect = if idle && self.waiting > 0 && !some_are_awake { self.neglect + 1 } else { 0 };
    }

    /// How much the most and the least that one has had differ from its part.
    fn spread(&self) -> f64 {
        let parts: u32 = self.all.iter().map(|one| one.parts).sum();
        let all: u64 = self.all.iter().map(|one| one.served).sum();
        let off = |one: &One| one.served as f64 - all as f64 * f64::from(one.parts) / f64::from(parts);
        self.all.iter().map(off).fold(0.0, |most: f64, off| most.max(off.abs()))
    }
}

fn honest(count: usize) -> Vec<(u32, Kind)> {
    vec![(1, Kind::Honest); count]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn turns_are_even_whatever_the_line_is_and_for_however_many_the_primary_stands(
        workers in 0..6_usize, stands_for in 1..6_u32, primary_at in 0..6_usize, work in 1..4_u64
    ) {
        let mut parts = honest(workers);
        parts.insert(primary_at.min(workers), (stands_for, Kind::Honest));
        let mut world = World::new(&parts, work);
        for client in 0..400 {
            world.tick(1);
            (0..work).for_each(|_| world.tick(0));
            prop_assert!(world.spread() <= f64::from(stands_for), "{} after {} clients", world.spread(), client);
            prop_assert_eq!(world.waiting, 0);
        }
    }

    #[test]
    fn nobody_waits_while_somebody_sleeps(
        workers in 1..5_usize, dying in 0..4_usize, work in 1..60_u64, coming in prop::collection::vec((0..400_u64, 1..9_usize), 1..60)
    ) {
        let mut parts = honest(workers);
        (0..dying).for_each(|one| parts.insert(one, (1, Kind::Mortal)));
        let mut world = World::new(&parts, work);
        for (pause, clients) in coming {
            world.tick(clients);
            for _ in 0..pause {
                world.tick(0);
                prop_assert!(world.neglect <= 1, "for {} ms", world.neglect);
            }
        }
    }

    #[test]
    fn whoever_sleeps_on_delays_others_by_no_more_than_the_looks(
        workers in 1..5_usize, at in 0..5_usize, work in 1..30_u64, gap in 1..900_u64
    ) {
        let longest = with_a_sleeper(workers, at, work, gap, 30_000)?;
        prop_assert!(longest.0 <= 2_030, "at first {} ms", longest.0);
        prop_assert!(longest.1 <= 26, "then {} ms", longest.1);
    }
}

/// The longest neglect in the first half and in the second.
fn with_a_sleeper(workers: usize, at: usize, work: u64, gap: u64, lasting: u64) -> Result<(u64, u64), TestCaseError> {
    let mut parts = honest(workers);
    parts.insert(at.min(workers), (1, Kind::Sleeper));
    let mut world = World::new(&parts, work);
    let mut longest = [0, 0];
    while world.time < lasting {
        world.tick(usize::from(world.time.is_multiple_of(gap)));
        let half = &mut longest[usize::from(world.time > lasting / 2)];
        *half = world.neglect.max(*half);
    }
    Ok((longest[0], longest[1]))
}

#[test]
fn an_address_to_which_nobody_comes_is_not_looked_at() -> TestCaseResult {
    let mut world = World::new(&[(1, Kind::Sleeper), (1, Kind::Honest)], 1);
    (0..5_000).for_each(|_| world.tick(0));
    assert!(!world.attention.is_awake() && world.audit_at.is_none());
    // The first who comes is announced, also if one was woken for him who sleeps on.
    world.tick(1);
    (0..30).for_each(|_| world.tick(0));
    assert_eq!((world.waiting, world.attention.is_awake()), (0, true));
    Ok(())
}
