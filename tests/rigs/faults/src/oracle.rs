//! Holds what clients saw against what workers say that they took. Pure: ledgers in, verdict out.

use std::collections::HashMap;
use std::fmt;

use crate::claims::{Claim, Kind};
use crate::clock::{MS, ms};

/// How a request ended for its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The whole answer came, and the end of the connection if it was to come. `sent`: when the worker sent it.
    Answered {
        pid: u32,
        sent: u64,
    },
    Reset,
    /// The connection ended without the whole answer.
    Ended,
    Refused,
    /// Nothing of all that within the client's patience.
    Hung,
}

/// A line of the client's ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    pub id: u64,
    /// The client's own.
    pub port: u16,
    /// When the connection was begun, or the id sent on one that was open.
    pub begun: u64,
    pub ended: u64,
    pub outcome: Outcome,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Harm {
    Killed,
    /// Stopped or made to compute.
    HeldUp,
}

/// What was done to a process, and when. A death has no end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    pub pid: u32,
    pub harm: Harm,
    pub begin: u64,
    pub end: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Breach {
    /// Two claims for one id: two workers took it, or one twice.
    TakenTwice {
        id: u64,
    },
    /// Answered by a worker that did not claim it, or that is not the one that did.
    AnsweredUnclaimed {
        id: u64,
    },
    /// Claimed by a worker that was not killed.
    LostByTheLiving {
        id: u64,
        pid: u32,
    },
    /// Nobody had claimed it and nobody was killed meanwhile.
    Lost {
        id: u64,
    },
    /// Nobody had claimed it; somebody was killed meanwhile, but they are too many to have been between two calls.
    LostWithTheDead {
        id: u64,
    },
    Refused {
        id: u64,
    },
    Hung {
        id: u64,
        taken_by: Option<u32>,
    },
    /// A worker claims what no client sent.
    Invented {
        id: u64,
    },
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TakenTwice { id } => write!(f, "{id:#x} was taken twice"),
            Self::AnsweredUnclaimed { id } => write!(f, "{id:#x} was answered by a worker that had not claimed it"),
            Self::LostByTheLiving { id, pid } => write!(f, "{id:#x} was lost by process {pid}, which was not killed"),
            Self::Lost { id } => write!(f, "{id:#x} was lost, taken by nobody, and nobody was killed"),
            Self::LostWithTheDead { id } => write!(f, "{id:#x} was lost while a worker was killed, taken by nobody"),
            Self::Refused { id } => write!(f, "{id:#x} was refused"),
            Self::Hung { id, taken_by: Some(pid) } => write!(f, "{id:#x} hung in the hand of process {pid}"),
            Self::Hung { id, taken_by: None } => write!(f, "{id:#x} hung, taken by nobody"),
            Self::Invented { id } => write!(f, "{id:#x} was claimed, but nobody sent it"),
        }
    }
}

#[derive(Debug, Clone, Default)]
pub struct Verdict {
    pub requests: u64,
    pub answered: u64,
    /// Lost in the hand of a worker that was killed.
    pub in_hand: u64,
    /// Lost while a worker was killed, claimed by nobody: taken, but not yet said so.
    pub unclaimed: u64,
    pub refused: u64,
    pub hung: u64,
    /// Of those, in the hand of a worker that was held up itself, which is no breach.
    pub hung_in_hand: u64,
    pub twice: u64,
    /// From a worker's death to the end of the last connection in its hand, milliseconds.
    pub slowest_farewell: f64,
    /// From connect to answer, of those that nobody who was held up or killed had in hand, milliseconds.
    pub longest: f64,
    pub breaches: Vec<Breach>,
}

/// The highest byte of an id on a connection that is kept open.
const KEEP: u64 = 2;

/// A death and its reset are told by different processes, each a little after it happened.
const SLACK: u64 = 20 * MS;

struct Books<'a> {
    by_id: HashMap<u64, Vec<&'a Claim>>,
    /// In the order of their times.
    by_port: HashMap<u16, Vec<&'a Claim>>,
    windows: HashMap<u32, Vec<&'a Window>>,
    /// In order.
    deaths: Vec<u64>,
}

impl Books<'_> {
    /// The processes that claim to have taken it, and when; the same one twice if it says so twice.
    fn takers(&self, entry: &Entry) -> Vec<(u32, u64)> {
        let read = self.by_id.get(&entry.id).into_iter().flatten().map(|claim| (claim.pid, claim.time));
        let mut takers: Vec<(u32, u64)> = read.collect();
        // Whoever accepted it has taken it from then on, also if he did not come to read the id.
        let of_port = self.by_port.get(&entry.port).map_or(&[][..], Vec::as_slice);
        let from = of_port.partition_point(|claim| claim.time < entry.begun);
        for claim in of_port[from..].iter().take_while(|claim| claim.time <= entry.ended) {
            match takers.iter_mut().find(|(pid, _)| *pid == claim.pid) {
                Some(taker) => taker.1 = taker.1.min(claim.time),
                None => takers.push((claim.pid, claim.time)),
            }
        }
        takers
    }

    fn death_of(&self, pid: u32, after: u64) -> Option<u64> {
        let windows = self.windows.get(&pid)?;
        let death = windows.iter().find(|window| window.harm == Harm::Killed && window.begin + SLACK >= after)?;
        Some(death.begin)
    }

    /// Whether that process was held up with the request in its hand.
    fn was_held_up(&self, (pid, taken): (u32, u64), entry: &Entry) -> bool {
        // On a connection that is kept open the worker has it from the beginning.
        let taken = if entry.id >> 56 == KEEP { 0 } else { taken };
        let mut windows = self.windows.get(&pid).into_iter().flatten().filter(|window| window.harm == Harm::HeldUp);
        windows.any(|window| taken <= window.begin + SLACK && entry.begun <= window.end && window.begin <= entry.ended)
    }

    fn is_near_a_death(&self, entry: &Entry) -> bool {
        let next = self.deaths.partition_point(|death| death + SLACK < entry.begun);
        self.deaths.get(next).is_some_and(|death| *death <= entry.ended + SLACK)
    }
}

fn books<'a>(claims: &'a [Claim], windows: &'a [Window]) -> Books<'a> {
    let mut books =
        Books { by_id: HashMap::new(), by_port: HashMap::new(), windows: HashMap::new(), deaths: Vec::new() };
    for claim in claims {
        match claim.kind {
            Kind::Read => books.by_id.entry(claim.id).or_default().push(claim),
            Kind::Accepted => books.by_port.entry(claim.port).or_default().push(claim),
        }
    }
    books.by_port.values_mut().for_each(|claims| claims.sort_by_key(|claim| claim.time));
    for window in windows {
        books.windows.entry(window.pid).or_default().push(window);
        if window.harm == Harm::Killed {
            books.deaths.push(window.begin);
        }
    }
    books.deaths.sort_unstable();
    books
}

/// `per_hundred`: how many in a hundred kills may be lost between the kernel's dequeue and the claim.
pub fn judge(entries: &[Entry], claims: &[Claim], windows: &[Window], per_hundred: u64) -> Verdict {
    let books = books(claims, windows);
    let mut verdict = Verdict { requests: entries.len() as u64, ..Verdict::default() };
    let may_be_unclaimed = (books.deaths.len() as u64 * per_hundred).div_ceil(100);
    for entry in entries {
        let takers = books.takers(entry);
        let id = entry.id;
        if takers.len() > 1 {
            verdict.twice += 1;
            verdict.breaches.push(Breach::TakenTwice { id });
        }
        let taker = takers.first().copied();
        match (entry.outcome, taker) {
            (Outcome::Answered { pid, .. }, taker) => {
                verdict.answered += 1;
                if books.by_id.get(&id).is_none_or(|claims| claims[0].pid != pid) {
                    verdict.breaches.push(Breach::AnsweredUnclaimed { id });
                }
                if !taker.is_some_and(|taker| books.was_held_up(taker, entry)) {
                    verdict.longest = verdict.longest.max(ms(entry.ended.saturating_sub(entry.begun)));
                }
            }
            (Outcome::Reset | Outcome::Ended, Some((pid, time))) => match books.death_of(pid, time) {
                Some(death) => {
                    verdict.in_hand += 1;
                    verdict.slowest_farewell = verdict.slowest_farewell.max(ms(entry.ended.saturating_sub(death)));
                }
                None => verdict.breaches.push(Breach::LostByTheLiving { id, pid }),
            },
            (Outcome::Reset | Outcome::Ended, None) if books.is_near_a_death(entry) => {
                verdict.unclaimed += 1;
                if verdict.unclaimed > may_be_unclaimed {
                    verdict.breaches.push(Breach::LostWithTheDead { id });
                }
            }
            (Outcome::Reset | Outcome::Ended, None) => verdict.breaches.push(Breach::Lost { id }),
            (Outcome::Refused, _) => {
                verdict.refused += 1;
                verdict.breaches.push(Breach::Refused { id });
            }
            (Outcome::Hung, taker) => {
                verdict.hung += 1;
                match taker {
                    Some(taker) if books.was_held_up(taker, entry) => verdict.hung_in_hand += 1,
                    _ => verdict.breaches.push(Breach::Hung { id, taken_by: taker.map(|(pid, _)| pid) }),
                }
            }
        }
    }
    let known: std::collections::HashSet<u64> = entries.iter().map(|entry| entry.id).collect();
    let invented = books.by_id.keys().filter(|id| !known.contains(id));
    verdict.breaches.extend(invented.map(|id| Breach::Invented { id: *id }));
    verdict
}

impl Verdict {
    /// What no worker had taken and was lost all the same; taken and not yet claimed is not among it.
    pub fn lost(&self) -> u64 {
        let is_loss = |breach: &&Breach| {
            matches!(breach, Breach::Lost { .. } | Breach::LostByTheLiving { .. } | Breach::LostWithTheDead { .. })
        };
        self.breaches.iter().filter(is_loss).count() as u64
    }

    pub fn add(&mut self, other: Verdict) {
        self.requests += other.requests;
        self.answered += other.answered;
        self.in_hand += other.in_hand;
        self.unclaimed += other.unclaimed;
        self.refused += other.refused;
        self.hung += other.hung;
        self.hung_in_hand += other.hung_in_hand;
        self.twice += other.twice;
        self.slowest_farewell = self.slowest_farewell.max(other.slowest_farewell);
        self.longest = self.longest.max(other.longest);
        self.breaches.extend(other.breaches);
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} requests, {} answered, {} in a dead hand (told within {:.0} ms), {} taken and unclaimed, {} lost, {} refused, \
             {} hung ({} in a hand held up), {} twice; longest {:.0} ms",
            self.requests,
            self.answered,
            self.in_hand,
            self.slowest_farewell,
            self.unclaimed,
            self.lost(),
            self.refused,
            self.hung,
            self.hung_in_hand,
            self.twice,
            self.longest
        )
    }
}

#[cfg(test)]
#[path = "oracle_tests.rs"]
mod tests;
