//! Random lives of a cluster beside a model of one: who has a share of which address, which addresses are open, and where
//! connections wait, after any sequence of listens, closes, ends and replacements, also several of one address at once.
//!
//! The model is written from docs/design/permits.md ("What the key of a handle is"), docs/design/node.md and
//! docs/protocol.md, not from the engine: an address is a set of members. CL_MODEL_SEQUENCES says how many lives are led (300), and
//! CL_MODEL_SEED repeats those of a seed that was printed.

mod hung;
mod left;
mod life;
mod limit;
mod line;
mod program;
mod reload;

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseResult, TestRng, TestRunner};

use super::alone;
use super::puppet::open_descriptors;
use crate::settings::Mechanism;
use crate::sys::process;
use life::Life;
use limit::Limit;
use line::Move;

const WORKERS_MAX: usize = 5;

/// Where to listen: the text, and the index that is sent.
const PLACES: [(&str, u32); 6] = [
    ("127.0.0.1:0", 1),
    ("127.0.0.1:0", 2),
    ("[::1]:0", 1),
    ("unix:@libcluster-model-THREAD", 0),
    // Where the port is not 0 the index makes no difference.
    ("unix:@libcluster-model-THREAD", 7),
    ("udp:127.0.0.1:0", 1),
];

/// What is asked for at a place. Of places beyond these each is a port of its own.
fn wanted(place: usize) -> (String, u32) {
    let (address, index) = PLACES.get(place).copied().unwrap_or(("127.0.0.1:0", 3 + place as u32));
    (address.replace("THREAD", &nix::unistd::gettid().to_string()), index)
}

/// The keys of the places, by the rule of docs/design/permits.md.
fn key(place: usize) -> String {
    let (address, index) = wanted(place);
    if address.ends_with(":0") { format!("{address}#{index}") } else { address }
}

/// Datagrams come to it, and no connections.
fn is_datagram(key: &str) -> bool {
    key.starts_with("udp:")
}

#[derive(Debug, Clone)]
enum Step {
    Enroll,
    /// Workers listen (true) or close, all before the primary looks.
    Ask(Vec<(usize, usize, bool)>),
    /// A worker leaves: by its own wish, by the program's, or by the program's with what it alone serves.
    Leave(usize, u8),
    /// Its process ends; in order or not.
    End(usize, bool),
    /// It closes its channel and lives on.
    Hush(usize),
    /// It dies and another takes its slot and its places.
    Replace(usize),
    /// In rotation it stands in line at a place, or leaves it while somebody waits.
    InLine(usize, usize, Move),
    /// All are replaced, so many at a time; the new ones may do something else before they begin.
    Reload(usize, bool),
    /// One crashes and leaves a process behind.
    LeaveBehind,
    /// One stands still while clients come.
    Hang,
    /// A program is started with a file of the primary's, or dies and is started anew.
    Program,
    /// Clients come to a place, or datagrams; everything that waits there is taken before and after.
    Clients(usize, usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (who, place) = (0..WORKERS_MAX, 0..PLACES.len());
    let ask = prop::collection::vec((who.clone(), place.clone(), prop::bool::weighted(0.7)), 1..6);
    let moves =
        prop_oneof![4 => Just(Move::Stand), 1 => Just(Move::StepOut), 1 => Just(Move::Pause), 1 => Just(Move::Close)];
    let step = prop_oneof![
        3 => Just(Step::Enroll),
        9 => ask.prop_map(Step::Ask),
        2 => (who.clone(), 0..3_u8).prop_map(|(who, how)| Step::Leave(who, how)),
        2 => (who.clone(), any::<bool>()).prop_map(|(who, in_order)| Step::End(who, in_order)),
        1 => who.clone().prop_map(Step::Hush),
        6 => (who.clone(), place.clone(), moves).prop_map(|(who, place, what)| Step::InLine(who, place, what)),
        2 => who.prop_map(Step::Replace),
        1 => (1..4_usize, any::<bool>()).prop_map(|(parallel, late)| Step::Reload(parallel, late)),
        1 => Just(Step::LeaveBehind),
        2 => Just(Step::Hang),
        1 => Just(Step::Program),
        4 => (place, 1..9_usize).prop_map(|(place, clients)| Step::Clients(place, clients)),
    ];
    prop::collection::vec(step, 1..40)
}

#[derive(Default)]
struct Worker {
    leaving: bool,
    hushed: bool,
    slot: u32,
    shares: BTreeSet<String>,
}

impl Worker {
    fn has(&self, key: &str) -> bool {
        self.shares.contains(key)
    }

    fn serves(&self, key: &str) -> bool {
        self.has(key) && !self.leaving && !self.hushed
    }
}

/// What should be.
#[derive(Default)]
struct Model {
    workers: BTreeMap<u32, Worker>,
    /// How many clients wait that nobody has taken; `None` where that depends on who was heard first.
    open: BTreeMap<String, Option<usize>>,
    /// Who was the last to go from an address.
    left_by: BTreeMap<String, u32>,
    last_id: u32,
}

impl Model {
    fn members<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a Worker> {
        self.workers.values().filter(move |worker| worker.shares.contains(key))
    }

    /// Somebody has left in order: what nobody serves any more, or only those who leave, is closed.
    fn close_if_given_up(&mut self, key: &str) {
        if self.members(key).all(|worker| worker.leaving) {
            self.open.remove(key);
            for worker in self.workers.values_mut() {
                worker.shares.remove(key);
            }
        }
    }

    fn lowest_slot(&self) -> u32 {
        (0..).find(|slot| self.workers.values().all(|worker| worker.slot != *slot)).unwrap_or(0)
    }

    /// A worker's shares go; in order, or as in a crash, after which addresses are kept.
    fn let_go(&mut self, id: u32, in_order: bool) {
        let shares = std::mem::take(&mut self.workers.entry(id).or_default().shares);
        for key in shares {
            if in_order {
                self.close_if_given_up(&key);
            }
            self.left_by.insert(key, id);
        }
    }
}

fn lead(steps: &[Step], mechanism: Mechanism, files: Option<usize>) -> TestCaseResult {
    let before = open_descriptors();
    let mut life = Life::new(mechanism, files.map(Limit::beside));
    for step in steps {
        life.step(step)?;
    }
    life.end_program()?;
    life.stop_while_one_hangs()?;
    drop(life);
    prop_assert_eq!(open_descriptors(), before, "descriptors are left");
    Ok(())
}

/// What random lives come to only now and then, in any case.
#[test]
fn a_life_with_everything_in_it_is_as_the_model_says() {
    use Step::{Ask, Clients, Enroll, Hang, InLine, LeaveBehind, Program, Replace};
    alone(|| {
        let all_listen = |who: usize| Ask((0..PLACES.len()).map(|place| (who, place, true)).collect());
        let begin = [Enroll, Enroll, Enroll, Program, all_listen(0), all_listen(1), all_listen(2)];
        let goes_on =
            [Hang, Program, LeaveBehind, Enroll, all_listen(2), Replace(1), Hang, LeaveBehind, Program, Enroll];
        let stand = [
            Clients(0, 3),
            InLine(0, 0, Move::Stand),
            InLine(1, 0, Move::Stand),
            InLine(1, 3, Move::Stand),
            Clients(0, 8),
            Clients(3, 8),
        ];
        let step_out = [InLine(1, 0, Move::StepOut), Clients(0, 8), InLine(0, 0, Move::StepOut), Clients(0, 8)];
        let steps = [
            &begin[..],
            &stand,
            &goes_on,
            &stand,
            &[Hang, Replace(0)],
            &stand,
            &step_out,
            &[all_listen(2), all_listen(1)],
        ]
        .concat();
        for (mechanism, files) in [
            (Mechanism::Auto, None),
            (Mechanism::Passed, None),
            (Mechanism::Rotation, None),
            (Mechanism::Auto, Some(30)),
            (Mechanism::Rotation, Some(30)),
            (Mechanism::Passed, Some(30)),
        ] {
            if let Err(difference) = lead(&steps, mechanism, files) {
                panic!("{mechanism:?}, beside {files:?} files: {difference}");
            }
        }
    });
}

#[test]
fn whoever_is_replaced_in_the_middle_of_a_life_is_as_the_model_says() {
    use Step::{Ask, Clients, Enroll, Hang, InLine, LeaveBehind, Reload};
    alone(|| {
        let all_listen = |who: usize| Ask((0..PLACES.len()).map(|place| (who, place, true)).collect());
        let begin = [Enroll, Enroll, Enroll, all_listen(0), all_listen(1), all_listen(2)];
        let stand = [InLine(0, 0, Move::Stand), InLine(1, 0, Move::Stand), InLine(2, 3, Move::Stand), Clients(0, 8)];
        let replaced = [Reload(1, false), Clients(0, 8), Reload(3, true), Clients(3, 8), Reload(2, true), Hang];
        let steps = [&begin[..], &replaced, &stand, &replaced, &stand, &[LeaveBehind, Enroll], &replaced].concat();
        for mechanism in [Mechanism::Auto, Mechanism::Passed, Mechanism::Rotation] {
            if let Err(difference) = lead(&steps, mechanism, None) {
                panic!("{mechanism:?}: {difference}");
            }
        }
    });
}

#[test]
fn what_a_crash_has_left_is_kept_through_a_reload() {
    use Step::{Ask, End, Enroll, Reload};
    alone(|| {
        let steps = [Enroll, Ask(vec![(0, 0, true)]), End(0, false), Enroll, Reload(1, false)];
        for mechanism in [Mechanism::Passed, Mechanism::Rotation] {
            if let Err(difference) = lead(&steps, mechanism, None) {
                panic!("{mechanism:?}: {difference}");
            }
        }
    });
}

#[test]
fn nobody_waits_for_one_who_was_woken_and_leaves_the_line() {
    use Step::{Ask, Clients, Enroll, InLine};
    alone(|| {
        let listen = |who: usize| Ask(vec![(who, 0, true), (who, 3, true)]);
        let begin = [Enroll, Enroll, listen(0), listen(1)];
        for place in [0, 3] {
            for what in [Move::Pause, Move::Close, Move::StepOut] {
                for who in [0, 1] {
                    let stand = [0, 1].map(|who| InLine(who, place, Move::Stand));
                    let leaves = [InLine(who, place, what), Clients(place, 5)];
                    let steps = [&begin[..], &stand, &[Clients(place, 5)], &leaves, &stand, &leaves].concat();
                    if let Err(difference) = lead(&steps, Mechanism::Rotation, None) {
                        panic!("{who} at {place}, {what:?}: {difference}");
                    }
                }
            }
        }
    });
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

#[test]
fn every_life_of_a_cluster_is_as_the_model_says() {
    let sequences = number("CL_MODEL_SEQUENCES").unwrap_or(300) as u32;
    let seed = number("CL_MODEL_SEED").unwrap_or_else(process::random);
    alone(move || {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let config =
            Config { cases: sequences, failure_persistence: None, max_shrink_time: 10_000, ..Config::default() };
        let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
        // The mechanism of the kernel, where it is to be had, costs ten times as much.
        let mechanism = prop_oneof![
            5 => Just(Mechanism::Passed),
            3 => Just(Mechanism::Rotation),
            2 => Just(Mechanism::Auto),
        ];
        let lives = (steps(), mechanism, prop::option::weighted(0.2, limit::FILES));
        let outcome = runner.run(&lives, |(steps, mechanism, files)| lead(&steps, mechanism, files));
        if let Err(difference) = outcome {
            panic!("with CL_MODEL_SEED={seed}: {difference}");
        }
    });
    println!("model: {sequences} sequences with the seed {seed}, 0 differences");
}
