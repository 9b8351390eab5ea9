//! The primary among workers that say anything in any order, close any of their ends, take what they are granted or not, and
//! are replaced; and a program that asks it for things meanwhile. Workers, clients and program are this one process.
//!
//! After each turn the books agree (`check_books`) and the descriptors are those of the books. A worker that broke the
//! rules is cut off; one that did not has its channel and every share that it did not close. In the end each client that
//! waits is in somebody's hands, and no descriptor is left.

mod program;
mod returns;
mod says;

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use super::Choices;
use super::puppet::{Puppet, connect, open_descriptors};
use crate::policy::Policy;
use crate::primary::{Event, Primary};
use crate::settings::{Mechanism, Settings};
use crate::sys::sockaddr::SockAddr;

const PUPPETS_MAX: usize = 5;
const CLIENTS_MAX: usize = 24;
/// What an input may do at most; more would only be slower.
const STEPS_MAX: usize = 400;
/// Turns until nothing more is to be done: of what a channel holds at most, 277 frames, one listen is heard in one, and
/// a puppet that has used its allowance rests in between.
const TURNS_MAX: usize = 2048;

/// Addresses that are bound in no one's way.
const ADDRESSES: [&str; 8] = [
    "127.0.0.1:0",
    "[::1]:0",
    "udp:127.0.0.1:0",
    "unix:@libcluster-fuzz-one",
    "unix:@libcluster-fuzz-two",
    "fd:1048575",
    "name.invalid:80",
    "no address",
];

/// What is expected of a worker, by the rules of docs/protocol.md alone.
#[derive(Default)]
struct Expected {
    greeted: bool,
    /// It broke a rule, or closed its channel: nothing is promised to it any more.
    lost: bool,
    /// It broke a rule and is to be cut off.
    offended: bool,
    /// It shut its channel down.
    closed: bool,
    /// Asked to leave, by itself or by the program.
    leaving: bool,
    /// What it was granted and has not closed.
    shares: BTreeSet<u32>,
    /// What the program closed, perhaps before the worker has read of it.
    withdrawn: BTreeSet<u32>,
}

struct Rig {
    primary: Primary,
    puppets: Vec<Puppet>,
    expected: BTreeMap<u32, Expected>,
    names: Vec<SockAddr>,
    clients: Vec<OwnedFd>,
    taken: Vec<OwnedFd>,
    relayed: Vec<OwnedFd>,
    handles: Vec<u32>,
    warned: BTreeSet<u32>,
    /// Descriptors that were open before.
    before: usize,
    /// The program closed addresses over the workers' heads.
    gave_up: bool,
}

/// Plays what the bytes say.
pub fn primary(bytes: &[u8]) {
    let before = open_descriptors();
    let mut choices = Choices(bytes);
    let Some(mut rig) = Rig::new(&mut choices, before) else { return };
    for _ in 0..STEPS_MAX {
        if choices.is_empty() {
            break;
        }
        rig.step(&mut choices);
    }
    rig.settle();
    rig.judge();
    drop(rig);
    assert_eq!(open_descriptors(), before, "descriptors are left");
}

impl Rig {
    fn new(choices: &mut Choices, before: usize) -> Option<Self> {
        let (how, window) = (choices.byte(), choices.byte());
        let policies = [Policy::RoundRobin, Policy::LeastLoaded, Policy::SourceHash, Policy::None];
        let settings = Settings {
            policy: policies[usize::from(how & 3)],
            // The kernel's mechanism costs a hundred times as much to set up.
            mechanism: match how & 0x1c {
                0x1c => Mechanism::Auto,
                0x18 | 0x14 | 0x10 => Mechanism::Rotation,
                _ => Mechanism::Passed,
            },
            window: 1 + u32::from(window & 15),
            window_most: u32::from(window >> 4),
            keep_unattended: if how & 32 == 0 { Duration::from_secs(30) } else { Duration::ZERO },
            ..Settings::default()
        };
        let primary = Primary::new(settings).ok()?;
        Some(Self {
            primary,
            puppets: Vec::new(),
            expected: BTreeMap::new(),
            names: Vec::new(),
            clients: Vec::new(),
            taken: Vec::new(),
            relayed: Vec::new(),
            handles: Vec::new(),
            warned: BTreeSet::new(),
            before,
            gave_up: false,
        })
    }

    fn step(&mut self, choices: &mut Choices) {
        let (what, who) = (choices.byte(), choices.byte());
        let who = usize::from(who) % self.puppets.len().max(1);
        match what % 32 {
            0 => self.enroll(),
            1..=9 if !self.puppets.is_empty() => self.says(who, what % 32, choices),
            10..=16 if !self.puppets.is_empty() => self.does(who, what % 32, choices),
            17 | 18 => self.client(choices),
            19 => drop(self.clients.pop()),
            20..=28 => self.program(what % 32, who, choices),
            29 if !self.puppets.is_empty() => self.hands_back(who, choices),
            _ => {
                self.turn();
            }
        }
    }

    fn enroll(&mut self) {
        if self.puppets.len() < PUPPETS_MAX
            && let Some(mut puppet) = Puppet::enroll(&mut self.primary)
        {
            puppet.rotates = !puppet.id.is_multiple_of(3);
            puppet.hands_back = !puppet.id.is_multiple_of(4);
            self.expected.insert(puppet.id, Expected::default());
            self.puppets.push(puppet);
        }
    }

    fn client(&mut self, choices: &mut Choices) {
        let which = usize::from(choices.byte());
        if let Some(name) = self.names.get(which % self.names.len().max(1))
            && self.clients.len() < CLIENTS_MAX
        {
            self.clients.extend(connect(name));
        }
    }

    /// True when something happened.
    fn turn(&mut self) -> bool {
        let wait = if self.primary.has_unread() { Duration::from_millis(2) } else { Duration::ZERO };
        let events = self.primary.turn(Some(wait)).expect("a turn");
        for event in &events {
            // A listen that was refused is told, too, and is no offence.
            if let Event::Warning { worker: Some(worker), text } = event
                && !text.starts_with("it cannot listen")
            {
                self.warned.insert(worker.id);
            }
        }
        self.primary.check_books();
        !events.is_empty()
    }

    /// Everything that was sent is read.
    fn settle(&mut self) {
        for _ in 0..TURNS_MAX {
            if !self.turn() && self.puppets.iter().all(|puppet| self.has_been_read(puppet)) {
                return;
            }
        }
        panic!("{TURNS_MAX} turns were not enough");
    }

    fn has_been_read(&self, puppet: &Puppet) -> bool {
        let Some(channel) = &puppet.channel else { return !self.primary.speaks_with(puppet.id) };
        let ends = [Some(channel), puppet.returns.as_ref()];
        let unread_of = |end: &OwnedFd| crate::sys::socket::unread_by_peer(end.as_fd()).unwrap_or(0);
        let unread: usize = ends.into_iter().flatten().map(unread_of).sum();
        !self.primary.speaks_with(puppet.id) || unread == 0
    }

    /// What every worker is due.
    fn judge(&mut self) {
        for puppet in &self.puppets {
            let expected = &self.expected[&puppet.id];
            let speaks = self.primary.speaks_with(puppet.id);
            if expected.offended {
                assert!(!speaks, "worker {} broke a rule and goes on", puppet.id);
                // An empty packet before its own end cannot be told from that end.
                let closed = puppet.channel.is_none() || expected.closed;
                assert!(closed || self.warned.contains(&puppet.id), "worker {} was cut off without a word", puppet.id);
            } else if !expected.lost {
                assert!(speaks, "worker {} kept to the rules and was cut off", puppet.id);
                assert!(!self.warned.contains(&puppet.id));
                let has: BTreeSet<u32> =
                    self.primary.shares_of(puppet.id).into_iter().map(|(listener, _)| listener).collect();
                let kept = expected.shares.is_subset(&has);
                assert!(kept || self.gave_up || expected.leaving, "worker {} lost a share to somebody", puppet.id);
            }
        }
        // What this rig itself has: each puppet's ends, its shares and the rest.
        let own: usize = self.puppets.iter().map(|puppet| 6 + 3 * puppet.shares.len()).sum();
        let own = own + self.clients.len() + self.taken.len() + self.relayed.len();
        let most = self.before + own + self.primary.descriptors_most();
        assert!(open_descriptors() <= most, "{} descriptors, {most} are accounted for", open_descriptors());
    }
}
