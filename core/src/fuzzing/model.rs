//! Random lives of a cluster beside a model of one: who has a share of which address, which addresses are open, and where
//! connections wait, after any sequence of listens, closes, ends and replacements, also several of one address at once.
//!
//! The model is written from docs/design/permits.md ("What the key of a handle is"), docs/design/node.md and
//! docs/protocol.md, not from the engine: an address is a set of members. CL_MODEL_SEQUENCES says how many lives are led (300), and
//! CL_MODEL_SEED repeats those of a seed that was printed.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseResult, TestRng, TestRunner};

use super::alone;
use super::puppet::{Puppet, Read, Taken, connect, open_descriptors};
use crate::primary::Primary;
use crate::settings::{Mechanism, Settings};
use crate::sys::process;
use crate::sys::sockaddr::SockAddr;
use crate::wire::FromWorker;

const WORKERS_MAX: usize = 5;

/// Where to listen: the text, and the index that is sent.
const PLACES: [(&str, u32); 5] = [
    ("127.0.0.1:0", 1),
    ("127.0.0.1:0", 2),
    ("[::1]:0", 1),
    ("unix:@libcluster-model-PID", 0),
    // Where the port is not 0 the index makes no difference.
    ("unix:@libcluster-model-PID", 7),
];

/// The keys of the places, by the rule of docs/design/permits.md.
fn key(place: usize) -> String {
    let (address, index) = PLACES[place];
    let address = address.replace("PID", &process::own_pid().to_string());
    if address.ends_with(":0") { format!("{address}#{index}") } else { address }
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
    /// One crashes and leaves a process behind.
    LeaveBehind,
    /// One stands still while clients come.
    Hang,
    /// Clients come to a place; everything that waits there is taken before and after.
    Clients(usize, usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (who, place) = (0..WORKERS_MAX, 0..PLACES.len());
    let ask = prop::collection::vec((who.clone(), place.clone(), prop::bool::weighted(0.7)), 1..6);
    let step = prop_oneof![
        3 => Just(Step::Enroll),
        9 => ask.prop_map(Step::Ask),
        2 => (who.clone(), 0..3_u8).prop_map(|(who, how)| Step::Leave(who, how)),
        2 => (who.clone(), any::<bool>()).prop_map(|(who, in_order)| Step::End(who, in_order)),
        1 => who.clone().prop_map(Step::Hush),
        2 => who.prop_map(Step::Replace),
        1 => Just(Step::LeaveBehind),
        1 => Just(Step::Hang),
        4 => (place, 1..9_usize).prop_map(|(place, clients)| Step::Clients(place, clients)),
    ];
    prop::collection::vec(step, 1..40)
}

#[derive(Default)]
pub(super) struct Worker {
    leaving: bool,
    hushed: bool,
    slot: u32,
    shares: BTreeSet<String>,
}

impl Worker {
    pub(super) fn has(&self, key: &str) -> bool {
        self.shares.contains(key)
    }

    pub(super) fn serves(&self, key: &str) -> bool {
        self.has(key) && !self.leaving && !self.hushed
    }
}

/// What should be.
#[derive(Default)]
pub(super) struct Model {
    pub(super) workers: BTreeMap<u32, Worker>,
    /// How many clients wait that nobody has taken; `None` where that depends on who was heard first.
    pub(super) open: BTreeMap<String, Option<usize>>,
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

pub(super) struct Life {
    pub(super) primary: Primary,
    pub(super) puppets: Vec<Puppet>,
    pub(super) names: BTreeMap<String, SockAddr>,
    pub(super) clients: Vec<OwnedFd>,
    /// Sockets of slots that processes have which workers left behind.
    pub(super) left: Vec<OwnedFd>,
    pub(super) model: Model,
}

impl Life {
    fn new(mechanism: Mechanism) -> Self {
        let settings = Settings { mechanism, window: 64, ..Settings::default() };
        let primary = Primary::new(settings).unwrap();
        let (names, model) = (BTreeMap::new(), Model::default());
        Self { primary, puppets: Vec::new(), names, clients: Vec::new(), left: Vec::new(), model }
    }

    fn step(&mut self, step: &Step) -> TestCaseResult {
        let known = |who: usize, life: &Life| who < life.puppets.len();
        match step {
            Step::Enroll => self.enroll()?,
            Step::Ask(asked) => self.ask(asked)?,
            Step::Leave(who, how) if known(*who, self) => self.leave(*who, *how),
            Step::End(who, in_order) if known(*who, self) => self.end(*who, *in_order),
            Step::Hush(who) if known(*who, self) => {
                let puppet = &mut self.puppets[*who];
                puppet.channel = None;
                let worker = self.model.workers.entry(puppet.id).or_default();
                worker.hushed = true;
                let leaving = worker.leaving;
                self.model.let_go(puppet.id, leaving);
            }
            Step::Replace(who) if known(*who, self) => self.replace(*who)?,
            Step::LeaveBehind => self.leave_behind()?,
            Step::Hang => self.hang()?,
            Step::Clients(place, count) => self.clients(&key(*place), *count)?,
            _ => {}
        }
        self.settle();
        self.compare()
    }

    pub(super) fn settle(&mut self) {
        loop {
            let wait = if self.primary.has_unread() { Duration::from_millis(2) } else { Duration::ZERO };
            if self.primary.turn(Some(wait)).unwrap().is_empty() && !self.primary.has_unread() {
                break;
            }
        }
        self.primary.check_books();
    }

    fn enroll(&mut self) -> TestCaseResult {
        if self.puppets.len() == WORKERS_MAX {
            return Ok(());
        }
        let puppet = Puppet::enroll(&mut self.primary).expect("a place");
        puppet.say(puppet.greeting()).unwrap();
        prop_assert!(puppet.id > self.model.last_id, "ids grow for ever");
        self.model.last_id = puppet.id;
        let slot = self.model.lowest_slot();
        prop_assert_eq!(self.primary.worker_info(puppet.id).unwrap().worker.slot, slot);
        self.model.workers.insert(puppet.id, Worker { slot, ..Worker::default() });
        self.puppets.push(puppet);
        Ok(())
    }

    /// Several workers say several things, which the primary may read in any order of the workers.
    fn ask(&mut self, asked: &[(usize, usize, bool)]) -> TestCaseResult {
        let mut answers = BTreeMap::new();
        let stayed: BTreeSet<String> = self.model.open.keys().cloned().collect();
        let (mut closed, mut asked_for) = (BTreeSet::new(), BTreeSet::new());
        for (who, place, listens) in asked {
            let Some(puppet) = self.puppets.get_mut(*who) else { continue };
            let key = key(*place);
            // Whether those who leave keep their share would depend on who is heard first.
            let some_leave = self.model.members(&key).any(|worker| worker.leaving);
            let worker = self.model.workers.entry(puppet.id).or_default();
            if worker.hushed || some_leave && (closed.contains(&key) || asked_for.contains(&key)) {
                continue;
            }
            if *listens {
                let (address, index) = PLACES[*place];
                let address = address.replace("PID", &process::own_pid().to_string());
                let number = puppet.ask(&address, index, 0).unwrap();
                let expected = match () {
                    () if worker.leaving => Some(-libc::ESHUTDOWN),
                    () if worker.shares.contains(&key) => Some(-libc::EADDRINUSE),
                    () => None,
                };
                answers.insert((puppet.id, number), (key.clone(), expected));
                if expected.is_none() {
                    worker.shares.insert(key.clone());
                    asked_for.insert(key.clone());
                    self.model.open.entry(key).or_insert(Some(0));
                }
            } else if let Some(at) =
                puppet.shares.iter().position(|share| worker.shares.contains(&key) && share.key == key)
            {
                let share = puppet.shares.remove(at);
                puppet.say(FromWorker::Close { listener: share.listener }).unwrap();
                worker.shares.remove(&key);
                self.model.left_by.insert(key.clone(), puppet.id);
                closed.insert(key);
            }
        }
        // An address that one closes and another asks for is open in the end, whoever came first; its clients may be lost.
        for key in &closed {
            self.model.close_if_given_up(key);
            if let Some(waiting) = self.model.open.get_mut(key)
                && asked_for.contains(key)
            {
                *waiting = None;
            }
        }
        self.settle();
        for puppet in &mut self.puppets {
            loop {
                let (number, code) = match puppet.read() {
                    Read::Nothing => break,
                    Read::Leave | Read::Done => continue,
                    Read::Granted { number, .. } => (number, None),
                    Read::Refused { number, code } => (number, Some(code)),
                };
                let (key, expected) = answers.remove(&(puppet.id, number)).expect("an answer to a question");
                prop_assert_eq!(code, expected, "{}", key);
                if code.is_some() {
                    continue;
                }
                let share = puppet.shares.last_mut().expect("the share just granted");
                share.key.clone_from(&key);
                let name = share.name;
                // It was open before and nobody closed it: the same port as ever.
                if stayed.contains(&key) && !closed.contains(&key) {
                    prop_assert_eq!(name.as_bytes(), self.names[&key].as_bytes());
                }
                self.names.insert(key, name);
            }
        }
        prop_assert!(answers.is_empty(), "every question is answered");
        Ok(())
    }

    fn leave(&mut self, who: usize, how: u8) {
        let puppet = &self.puppets[who];
        let worker = self.model.workers.entry(puppet.id).or_default();
        if worker.hushed {
            return;
        }
        worker.leaving = true;
        match how {
            0 => puppet.say(FromWorker::Disconnect).unwrap(),
            1 => self.primary.disconnect(puppet.id).unwrap(),
            _ => {
                self.primary.retire(puppet.id);
                for key in worker.shares.clone() {
                    self.model.close_if_given_up(&key);
                }
            }
        }
    }

    pub(super) fn end(&mut self, who: usize, in_order: bool) {
        let puppet = self.puppets.remove(who);
        let id = puppet.id;
        drop(puppet);
        let worker = self.model.workers.entry(id).or_default();
        let leaving = worker.leaving;
        self.model.let_go(id, leaving);
        self.model.workers.remove(&id);
        self.primary.enrolled_ended(id, in_order);
        if in_order {
            // What it was the last to serve is given up.
            let Model { workers, open, left_by, .. } = &mut self.model;
            let is_served = |key: &String| workers.values().any(|worker| worker.shares.contains(key));
            open.retain(|key, _| is_served(key) || left_by.get(key) != Some(&id));
        }
    }

    fn replace(&mut self, who: usize) -> TestCaseResult {
        let (id, shares) = {
            let puppet = &self.puppets[who];
            let worker = &self.model.workers[&puppet.id];
            (puppet.id, if worker.leaving { BTreeSet::new() } else { worker.shares.clone() })
        };
        let slot = self.model.workers[&id].slot;
        self.end(who, false);
        let lowest = self.model.lowest_slot();
        self.enroll()?;
        prop_assert!(lowest <= slot);
        let who = self.puppets.len() - 1;
        let places: Vec<_> =
            (0..PLACES.len()).filter(|place| shares.contains(&key(*place))).map(|place| (who, place, true)).collect();
        self.settle();
        // The last place is the same address as the one before.
        let mut asked = BTreeSet::new();
        let places: Vec<_> = places.into_iter().filter(|(_, place, _)| asked.insert(key(*place))).collect();
        self.ask(&places)
    }

    /// Everything that waits at an address, taken by whoever has it: how many each got.
    fn take_all(&mut self, key: &str) -> Vec<(u32, usize)> {
        let mut taken: Vec<(u32, usize)> = self.puppets.iter().map(|puppet| (puppet.id, 0)).collect();
        loop {
            let mut some = false;
            for (puppet, (_, count)) in self.puppets.iter().zip(&mut taken) {
                // What waits in a share of an address that was given up is no one's any more.
                let has_share = self.model.workers[&puppet.id].shares.contains(key);
                for share in puppet.shares.iter().filter(|share| has_share && share.key == key) {
                    while let Some(connection) = next_of(share) {
                        drop(connection);
                        (some, *count) = (true, *count + 1);
                    }
                }
            }
            if !some {
                return taken;
            }
            self.settle();
        }
    }

    fn clients(&mut self, key: &str, count: usize) -> TestCaseResult {
        let Some(waiting) = self.model.open.get(key).copied() else { return Ok(()) };
        let serving: Vec<u32> = self
            .model
            .workers
            .iter()
            .filter(|(_, worker)| worker.shares.contains(key) && !worker.leaving)
            .map(|(id, _)| *id)
            .collect();
        let before: usize = self.take_all(key).iter().map(|(_, count)| count).sum();
        if let Some(waiting) = waiting {
            prop_assert!(before <= waiting, "{} of {} clients", before, waiting);
            prop_assert!(before == waiting || serving.is_empty(), "{} clients waited, {} are there", waiting, before);
        }
        let name = self.names[key];
        self.rise();
        for _ in 0..count {
            let client = connect(&name);
            prop_assert!(client.is_some(), "an open address refuses nobody");
            self.clients.extend(client);
        }
        self.model.open.insert(key.to_owned(), waiting.map(|waiting| waiting - before + count));
        self.settle();
        self.stole_nothing()?;
        if serving.is_empty() || self.primary.settings().mechanism != Mechanism::Passed {
            return Ok(());
        }
        let taken = self.take_all(key);
        let each: Vec<usize> = taken.iter().filter(|(id, _)| serving.contains(id)).map(|(_, count)| *count).collect();
        prop_assert_eq!(each.iter().sum::<usize>(), count, "those who leave get nothing, the others everything");
        prop_assert!(each.iter().max().unwrap() - each.iter().min().unwrap() <= 1, "in turns: {:?}", each);
        self.model.open.insert(key.to_owned(), Some(0));
        Ok(())
    }

    fn compare(&self) -> TestCaseResult {
        let ids: Vec<u32> = self.model.workers.keys().copied().collect();
        prop_assert_eq!(self.primary.worker_ids(), ids);
        let open: BTreeSet<String> = self.primary.open_keys().into_iter().collect();
        prop_assert_eq!(&open, &self.model.open.keys().cloned().collect::<BTreeSet<_>>());
        for (id, worker) in &self.model.workers {
            let shares: BTreeSet<String> = self.primary.shares_of(*id).into_iter().map(|(_, key)| key).collect();
            prop_assert_eq!(&shares, &worker.shares, "worker {}", id);
            prop_assert_eq!(self.primary.speaks_with(*id), !worker.hushed);
        }
        let names: BTreeSet<&[u8]> = open.iter().map(|key| self.names[key].as_bytes()).collect();
        prop_assert_eq!(names.len(), open.len(), "two addresses, two names");
        Ok(())
    }
}

/// The next connection of a share, from its mailbox or its socket.
pub(super) fn next_of(share: &super::puppet::Share) -> Option<OwnedFd> {
    loop {
        match share.take() {
            Taken::Connection(connection) => return Some(connection),
            Taken::Control | Taken::Stop => {}
            Taken::Nothing => return share.accept(),
        }
    }
}

fn lead(steps: &[Step], mechanism: Mechanism) -> TestCaseResult {
    let before = open_descriptors();
    let mut life = Life::new(mechanism);
    for step in steps {
        life.step(step)?;
    }
    life.stop_while_one_hangs()?;
    drop(life);
    prop_assert_eq!(open_descriptors(), before, "descriptors are left");
    Ok(())
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
        let lives = (steps(), prop::bool::weighted(0.2));
        let outcome = runner
            .run(&lives, |(steps, kernel)| lead(&steps, if kernel { Mechanism::Auto } else { Mechanism::Passed }));
        if let Err(difference) = outcome {
            panic!("with CL_MODEL_SEED={seed}: {difference}");
        }
    });
    println!("model: {sequences} sequences with the seed {seed}, 0 differences");
}
