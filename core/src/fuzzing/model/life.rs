//! One life: a primary, its workers in the hands of this test, and what the model says of them.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;

use super::limit::Limit;
use super::program::Program;
use super::reload::Told;
use super::{Model, Step, WORKERS_MAX, Worker, is_datagram, key, wanted};
use crate::fuzzing::puppet::{Puppet, Read, Share, Taken, connect};
use crate::primary::{Event, Primary};
use crate::restart::Respawn;
use crate::settings::{Mechanism, Settings};
use crate::sys::sockaddr::SockAddr;
use crate::wire::FromWorker;

/// Longer than anything takes that is not done at once, by far.
pub(super) const AT_MOST: Duration = Duration::from_secs(3);

pub(super) struct Life {
    pub(super) primary: Primary,
    pub(super) puppets: Vec<Puppet>,
    pub(super) names: BTreeMap<String, SockAddr>,
    pub(super) clients: Vec<OwnedFd>,
    /// Sockets of slots that processes have which workers left behind.
    pub(super) left: Vec<OwnedFd>,
    /// What the primary starts itself.
    pub(super) program: Option<Program>,
    /// The primary may have so many descriptors.
    pub(super) limit: Option<Limit>,
    pub(super) model: Model,
    pub(super) told: Told,
}

impl Life {
    pub(super) fn new(mechanism: Mechanism, limit: Option<Limit>) -> Self {
        let soon = Duration::from_millis(1);
        let settings = Settings {
            mechanism,
            window: 64,
            respawn: Respawn::Always,
            restart_delay: (soon, soon),
            ..Settings::default()
        };
        Self {
            primary: Primary::new(settings).unwrap(),
            puppets: Vec::new(),
            names: BTreeMap::new(),
            clients: Vec::new(),
            left: Vec::new(),
            program: None,
            limit,
            model: Model::default(),
            told: Told::default(),
        }
    }

    /// What the primary does with what it may have.
    pub(super) fn act<T>(&mut self, act: impl FnOnce(&mut Primary) -> T) -> T {
        let _for_now = self.limit.as_ref().map(Limit::holds);
        act(&mut self.primary)
    }

    pub(super) fn turn(&mut self, wait: Duration) -> Vec<Event> {
        let events = self.act(|primary| primary.turn(Some(wait)).unwrap());
        events.iter().for_each(|event| self.told.hear(event));
        events
    }

    pub(super) fn step(&mut self, step: &Step) -> TestCaseResult {
        let known = |who: usize, life: &Life| who < life.puppets.len();
        match step {
            Step::Enroll => self.enroll()?,
            Step::Ask(asked) => self.ask(asked)?,
            Step::Program => self.start_program()?,
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
            Step::Reload(parallel, late) => self.reload(*parallel, *late)?,
            Step::InLine(who, place, what) if known(*who, self) => self.in_line(*who, &key(*place), *what)?,
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
            if self.turn(wait).is_empty() && !self.primary.has_unread() {
                break;
            }
        }
        self.primary.check_books();
    }

    fn enroll(&mut self) -> TestCaseResult {
        if self.puppets.len() == WORKERS_MAX {
            return Ok(());
        }
        let place = self.act(Primary::enroll);
        prop_assert!(place.is_ok(), "nobody can be started any more: {:?}", place.err());
        let mut puppet = place.map(Puppet::at).unwrap();
        // One of three is of an older version.
        puppet.rotates = self.primary.settings().mechanism == Mechanism::Rotation && !puppet.id.is_multiple_of(3);
        puppet.say(puppet.greeting()).unwrap();
        self.begins(puppet.id, self.model.lowest_slot())?;
        self.puppets.push(puppet);
        Ok(())
    }

    /// A worker is there.
    pub(super) fn begins(&mut self, id: u32, slot: u32) -> TestCaseResult {
        prop_assert!(id > self.model.last_id, "ids grow for ever");
        self.model.last_id = id;
        prop_assert_eq!(self.primary.worker_info(id).unwrap().worker.slot, slot);
        self.model.workers.insert(id, Worker { slot, ..Worker::default() });
        Ok(())
    }

    /// Several workers say several things, which the primary may read in any order of the workers.
    pub(super) fn ask(&mut self, asked: &[(usize, usize, bool)]) -> TestCaseResult {
        self.close_given_up();
        let mut answers = BTreeMap::new();
        let mut stayed: BTreeSet<String> = self.model.open.keys().cloned().collect();
        let unattended = self.may_be_given_up();
        stayed.retain(|key| !unattended.contains(key));
        let (mut closed, mut asked_for) = (BTreeSet::new(), BTreeSet::new());
        let asked = self.limit.as_ref().map_or_else(|| asked.to_vec(), |limit| limit.ask_for_more(asked));
        for (who, place, listens) in &asked {
            let Some(puppet) = self.puppets.get_mut(*who) else { continue };
            let key = key(*place);
            // Whether those who leave keep their share would depend on who is heard first.
            let some_leave = self.model.members(&key).any(|worker| worker.leaving);
            let worker = self.model.workers.entry(puppet.id).or_default();
            if worker.hushed || some_leave && (closed.contains(&key) || asked_for.contains(&key)) {
                continue;
            }
            if *listens {
                let (address, index) = wanted(*place);
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
        let mut refused = BTreeSet::new();
        for puppet in &mut self.puppets {
            loop {
                let (number, code) = match puppet.read() {
                    Read::Nothing => break,
                    Read::Leave | Read::Done => continue,
                    Read::Granted { number, .. } => (number, None),
                    Read::Refused { number, code } => (number, Some(code)),
                };
                let (key, expected) = answers.remove(&(puppet.id, number)).expect("an answer to a question");
                if self.limit.is_some() && code == Some(-libc::EMFILE) {
                    refused.extend(expected.is_none().then_some((puppet.id, key)));
                    continue;
                }
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
        self.in_want(&refused, &unattended);
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
            1 => {
                self.primary.disconnect(puppet.id).unwrap();
                return;
            }
            _ => self.primary.retire(puppet.id),
        }
        for key in worker.shares.clone() {
            self.model.close_if_given_up(&key);
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
        self.act(|primary| primary.enrolled_ended(id, in_order));
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
            (0..self.places()).filter(|place| shares.contains(&key(*place))).map(|place| (who, place, true)).collect();
        self.settle();
        // The last place is the same address as the one before.
        let mut asked = BTreeSet::new();
        let places: Vec<_> = places.into_iter().filter(|(_, place, _)| asked.insert(key(*place))).collect();
        self.ask(&places)
    }

    /// Everything that waits at an address, taken by whoever has it: how many each got.
    /// Where descriptors are short, the primary may rest for a moment in between.
    pub(super) fn take_all(&mut self, key: &str, expected: usize) -> Vec<(u32, usize)> {
        let mut taken: Vec<(u32, usize)> = self.puppets.iter().map(|puppet| (puppet.id, 0)).collect();
        let end = Instant::now() + AT_MOST;
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
            let all: usize = taken.iter().map(|(_, count)| count).sum();
            let may_rest = self.limit.is_some() && all < expected && Instant::now() < end;
            if !some && !may_rest {
                return taken;
            }
            if !some {
                self.turn(Duration::from_millis(5));
            }
            self.settle();
        }
    }

    /// What waits at an address is taken by those who serve it; how much that was.
    fn take_what_waits(&mut self, key: &str) -> Result<usize, TestCaseError> {
        let waiting = self.model.open.get(key).copied().flatten();
        let served = !self.serving(key).is_empty();
        let expected = if served { waiting.unwrap_or(0) } else { 0 };
        let before: usize = self.take_all(key, expected).iter().map(|(_, count)| count).sum();
        if let Some(waiting) = waiting {
            prop_assert!(before <= waiting, "{} of {} clients", before, waiting);
            prop_assert!(before == waiting || !served, "{} clients waited, {} are there", waiting, before);
            self.model.open.insert(key.to_owned(), Some(waiting - before));
        }
        Ok(before)
    }

    /// Nobody waits anywhere for one who serves.
    pub(super) fn take_everything(&mut self) -> TestCaseResult {
        for key in self.model.open.keys().cloned().collect::<Vec<String>>() {
            self.take_what_waits(&key)?;
            if !self.serving(&key).is_empty() {
                self.model.open.insert(key, Some(0));
            }
        }
        Ok(())
    }

    /// Who serves an address and is not about to leave.
    pub(super) fn serving(&self, key: &str) -> Vec<u32> {
        let serving = |(id, worker): (&u32, &Worker)| worker.serves(key).then_some(*id);
        self.model.workers.iter().filter_map(serving).collect()
    }

    fn clients(&mut self, key: &str, count: usize) -> TestCaseResult {
        if !self.model.open.contains_key(key) {
            return Ok(());
        }
        if is_datagram(key) {
            return self.peers(key, count);
        }
        self.take_what_waits(key)?;
        let serving = self.serving(key);
        let name = self.names[key];
        self.rise();
        for _ in 0..count {
            let client = connect(&name);
            prop_assert!(client.is_some(), "an open address refuses nobody");
            self.clients.extend(client);
        }
        if let Some(waiting) = self.model.open.get_mut(key) {
            *waiting = waiting.map(|waiting| waiting + count);
        }
        self.settle();
        self.stole_nothing()?;
        if serving.is_empty() || self.primary.settings().mechanism != Mechanism::Passed {
            return Ok(());
        }
        let taken = self.take_all(key, count);
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
pub(super) fn next_of(share: &Share) -> Option<OwnedFd> {
    loop {
        match share.take() {
            Taken::Connection(connection) => return Some(connection),
            Taken::Control | Taken::Begin => {}
            Taken::Stop => share.step_out(),
            Taken::Nothing if share.waits_for_begin() || share.may_stand() && !share.stands() => return None,
            Taken::Nothing => return share.accept(),
        }
    }
}
