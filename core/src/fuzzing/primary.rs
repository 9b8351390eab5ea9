//! The primary among workers that say anything in any order, close any of their ends, take what they are granted or not, and
//! are replaced; and a program that asks it for things meanwhile. Workers, clients and program are this one process.
//!
//! After each turn the books agree (`check_books`) and the descriptors are those of the books. A worker that broke the
//! rules is cut off; one that did not has its channel and every share that it did not close. In the end each client that
//! waits is in somebody's hands, and no descriptor is left.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::Shutdown;

use super::Choices;
use super::puppet::{Puppet, Read, Taken, connect, open_descriptors};
use crate::bind::ListenFlags;
use crate::policy::Policy;
use crate::primary::{Event, Primary, Wanted};
use crate::settings::{Mechanism, Settings};
use crate::sys::sockaddr::SockAddr;
use crate::wire::{FromWorker, MESSAGE_MAX, VERSION};

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

/// Options that a worker may set, that it may not, and that not every address has.
const OPTIONS: [(i32, i32); 4] = [
    (libc::SOL_SOCKET, libc::SO_RCVBUF),
    (libc::SOL_SOCKET, libc::SO_LINGER),
    (libc::IPPROTO_TCP, libc::TCP_NODELAY),
    (libc::IPPROTO_IPV6, libc::IPV6_TCLASS),
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
            mechanism: if how & 0x1c == 0x1c { Mechanism::Auto } else { Mechanism::Passed },
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
            _ => {
                self.turn();
            }
        }
    }

    fn enroll(&mut self) {
        if self.puppets.len() < PUPPETS_MAX
            && let Some(puppet) = Puppet::enroll(&mut self.primary)
        {
            self.expected.insert(puppet.id, Expected::default());
            self.puppets.push(puppet);
        }
    }

    /// A frame. Whether it keeps to the rules is decided here, by what the worker knows.
    fn says(&mut self, who: usize, what: u8, choices: &mut Choices) {
        let sloppy = choices.byte();
        let listener = self.listener(who, sloppy);
        let puppet = &mut self.puppets[who];
        let expected = self.expected.get_mut(&puppet.id).expect("an expectation");
        let mut breaks = !expected.greeted;
        let mut closes = None;
        let sent = match what {
            1 => {
                breaks = expected.greeted || sloppy & 3 == 3;
                let wrong = FromWorker::Online { offers: 0, version: VERSION, nonce: !puppet.nonce, pid: 1 };
                let outcome = puppet.say(if sloppy & 3 == 3 { wrong } else { puppet.greeting() });
                expected.greeted |= outcome.is_ok() && !breaks;
                outcome
            }
            2 | 3 => {
                let address = ADDRESSES[usize::from(choices.byte()) % ADDRESSES.len()];
                let flags = if sloppy & 128 == 0 { 0 } else { u32::from(choices.byte()) };
                puppet.ask(address, u32::from(sloppy & 3), flags).map(drop)
            }
            4 => {
                breaks |= !expected.shares.contains(&listener);
                closes = Some(listener);
                puppet.say(FromWorker::Close { listener })
            }
            5 => {
                breaks |= !expected.shares.contains(&listener);
                let (level, name) = OPTIONS[usize::from(sloppy >> 4 & 7) % OPTIONS.len()];
                let frames = [
                    FromWorker::Pause { listener },
                    FromWorker::Resume { listener },
                    FromWorker::Unseat { listener },
                    FromWorker::SetOption { number: 1, listener, level, name, value: &[1, 0, 0, 0] },
                ];
                puppet.say(frames[usize::from(choices.byte()) % frames.len()])
            }
            6 => {
                let length = choices.byte();
                puppet.say(FromWorker::Message(choices.take(length.into())))
            }
            7 => puppet.say(FromWorker::Load(choices.u32())),
            8 => {
                let outcome = puppet.say(FromWorker::Disconnect);
                expected.leaving |= outcome.is_ok();
                outcome
            }
            _ => {
                breaks = true;
                nonsense(puppet, sloppy, choices)
            }
        };
        match sent {
            Ok(()) => {
                if breaks {
                    expected.offended |= !expected.lost;
                    expected.lost = true;
                } else if let Some(listener) = closes {
                    expected.shares.remove(&listener);
                    puppet.shares.retain(|share| share.listener != listener);
                }
            }
            // It was cut off, or the primary has 278 of its frames to read.
            Err(Errno::EPIPE | Errno::ECONNRESET | Errno::ENOTCONN) => {}
            // It attached descriptors, which the kernel refuses (Linux 6.16).
            Err(Errno::EPERM) => assert!(breaks),
            Err(Errno::EAGAIN | Errno::EMSGSIZE | Errno::ENOBUFS) => {
                self.turn();
            }
            Err(errno) => panic!("sending failed otherwise than it may: {errno}"),
        }
    }

    /// One of its listeners, a neighbour's, or a number that nobody has.
    fn listener(&self, who: usize, which: u8) -> u32 {
        let neighbour = (who + usize::from(which >> 7)) % self.puppets.len();
        let share = self.puppets[neighbour].shares.get(usize::from(which & 15));
        share.map_or(1 << 30 | u32::from(which), |share| share.listener)
    }

    /// What a worker does without a word.
    fn does(&mut self, who: usize, what: u8, choices: &mut Choices) {
        let detail = choices.byte();
        let puppet = &mut self.puppets[who];
        let expected = self.expected.get_mut(&puppet.id).expect("an expectation");
        let share = puppet.shares.get(usize::from(detail & 7));
        match what {
            10 | 11 => match puppet.read() {
                Read::Granted { listener, .. } => {
                    if !expected.withdrawn.contains(&listener) {
                        expected.shares.insert(listener);
                    }
                    self.names.extend(puppet.shares.last().map(|share| share.name));
                }
                Read::Refused { number, code } => assert!(number > 0 && code < 0),
                Read::Done => {}
                Read::Leave => expected.leaving = true,
                Read::Nothing => {
                    puppet.listen_to();
                }
            },
            12 => {
                let Some(share) = share else { return };
                for _ in 0..detail >> 3 {
                    match share.take() {
                        Taken::Connection(connection) => self.taken.push(connection),
                        Taken::Control | Taken::Stop => {}
                        Taken::Nothing => break,
                    }
                }
            }
            13 => self.taken.extend(share.and_then(|share| share.accept())),
            14 => {
                let how = [Shutdown::Read, Shutdown::Write, Shutdown::Both][usize::from(detail >> 4) % 3];
                if let Some(share) = share {
                    share.shut_down(detail & 8 != 0, how);
                }
            }
            15 => {
                if let Some(board) = &puppet.board {
                    board.u64_at::<64>().store(u64::from(choices.u32()) << (detail & 32), Ordering::Relaxed);
                    board.u64_at::<72>().fetch_add(1, Ordering::Relaxed);
                    board.u32_at::<80>().store(choices.u32(), Ordering::Relaxed);
                    board.u32_at::<84>().fetch_add(1, Ordering::Relaxed);
                }
            }
            _ => match detail % 4 {
                0 => {
                    // What it said before is still read.
                    puppet.channel = None;
                    expected.lost = true;
                }
                1 => puppet.grants = None,
                2 => {
                    if let Some(channel) = &puppet.channel {
                        let _ = nix::sys::socket::shutdown(channel.as_raw_fd(), Shutdown::Write);
                        (expected.lost, expected.closed) = (true, true);
                    }
                }
                _ => puppet.shares.clear(),
            },
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

    /// What the primary's own program asks for.
    fn program(&mut self, what: u8, who: usize, choices: &mut Choices) {
        let detail = choices.byte();
        let id = self.puppets.get(who).map_or(u32::from(detail), |puppet| puppet.id);
        let address = ADDRESSES[usize::from(detail) % ADDRESSES.len()];
        let wanted = Wanted {
            address,
            index: 1 + u32::from(detail >> 6),
            backlog: 0,
            flags: ListenFlags::default(),
            pad_abstract: detail & 8 != 0,
        };
        match what {
            20 => self.replace(who, detail),
            21 => {
                if self.primary.disconnect(id).is_ok()
                    && let Some(expected) = self.expected.get_mut(&id)
                {
                    expected.leaving = true;
                }
            }
            22 => drop(self.primary.send(id, choices.take(usize::from(detail)))),
            23 => {
                if let Ok(granted) = self.primary.grant(id, wanted) {
                    self.handles.push(granted.handle);
                }
            }
            24 => {
                if let Ok(relayed) = self.primary.relay(id, wanted) {
                    self.handles.push(relayed.granted.handle);
                    self.names.push(relayed.granted.name);
                    self.relayed.push(relayed.mailbox);
                }
            }
            25 => {
                if let (Some(handle), Some(connection)) = (self.handles.last(), self.taken.pop()) {
                    let _ = self.primary.put_back(*handle, connection.as_raw_fd());
                }
            }
            26 => {
                let own = self.primary.shares_of(id);
                if let Some((listener, _)) = own.get(usize::from(detail) % own.len().max(1)) {
                    self.primary.close_share(id, *listener);
                    let expected = self.expected.entry(id).or_default();
                    expected.shares.remove(listener);
                    expected.withdrawn.insert(*listener);
                }
            }
            27 => {
                let (_, _) = (self.primary.worker_info(id).is_ok(), self.primary.handles().len());
                let _ = self.primary.kill(id, 0);
            }
            _ => self.program_ends(id, detail),
        }
    }

    fn program_ends(&mut self, id: u32, detail: u8) {
        match detail % 8 {
            0 => {
                self.primary.give_up_all();
                self.gave_up = true;
            }
            1 => {
                self.primary.stop(Duration::from_secs(9));
                self.expected.values_mut().for_each(|expected| expected.leaving = true);
                self.gave_up = true;
            }
            2 => self.primary.finish(),
            3 => {
                self.primary.retire(id);
                if let Some(expected) = self.expected.get_mut(&id) {
                    expected.leaving = true;
                }
            }
            4 => {
                let mut settings = self.primary.settings().clone();
                settings.window = 1 + u32::from(detail >> 4);
                let _ = self.primary.configure(settings);
            }
            _ => {
                self.turn();
            }
        }
    }

    /// A worker's process ends, and perhaps another takes its place.
    fn replace(&mut self, who: usize, detail: u8) {
        if self.puppets.is_empty() {
            return;
        }
        let puppet = self.puppets.remove(who);
        let id = puppet.id;
        // The program may hear of it before or after its descriptors are closed.
        let (early, late) = if detail & 4 == 0 { (Some(puppet), None) } else { (None, Some(puppet)) };
        drop(early);
        self.primary.enrolled_ended(id, detail & 2 == 0);
        drop(late);
        self.expected.remove(&id);
        assert!(!self.primary.speaks_with(id) && self.primary.worker_info(id).is_err());
        if detail & 1 == 0 {
            self.enroll();
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
        let unread = crate::sys::socket::unread_by_peer(channel.as_fd()).unwrap_or(0);
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
        let own: usize = self.puppets.iter().map(|puppet| 5 + 2 * puppet.shares.len()).sum();
        let own = own + self.clients.len() + self.taken.len() + self.relayed.len();
        let most = self.before + own + self.primary.descriptors_most();
        assert!(open_descriptors() <= most, "{} descriptors, {most} are accounted for", open_descriptors());
    }
}

/// What no worker may send.
fn nonsense(puppet: &Puppet, which: u8, choices: &mut Choices) -> Result<(), Errno> {
    match which % 8 {
        0 => puppet.send(b"", &[]),
        1 => puppet.send(&vec![5; MESSAGE_MAX + 64], &[]),
        2 => match &puppet.channel {
            Some(channel) => puppet.send(&FromWorker::Load(1).encode(), &[channel.as_fd(), channel.as_fd()]),
            None => Err(Errno::ENOTCONN),
        },
        3 => puppet.send(&crate::wire::STOP, &[]),
        _ => {
            let length = choices.byte();
            let bytes = choices.take(length.into());
            // Whatever is a frame after all is none of this function's.
            if FromWorker::decode(bytes).is_ok() {
                puppet.send(&crate::wire::NOP, &[])
            } else {
                puppet.send(bytes, &[])
            }
        }
    }
}
