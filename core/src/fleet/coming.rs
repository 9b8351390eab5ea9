//! A worker on the way to another's place, and when it is ready for that.

use std::time::{Duration, Instant};

use super::action::{Generation, Order};

/// Why somebody is to be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    Reload,
    /// A reload failed, and its workers are replaced by those of before.
    Rollback,
    Restart,
    Recycle,
}

/// What is to be seen of a worker.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Proof {
    /// An address of its predecessor on which it does not listen.
    pub(crate) missing: Option<String>,
    /// It listens on something.
    pub(crate) listens: bool,
    /// It is to say that it is ready.
    pub(crate) manual: bool,
    /// It has said so; `None`: it cannot.
    pub(crate) said: Option<bool>,
}

impl Proof {
    pub(crate) fn is_ready(&self) -> bool {
        self.listens && self.missing.is_none() && (!self.manual || self.said == Some(true))
    }

    /// What it lacks, as the end of a sentence about it.
    fn lacks(&self) -> String {
        match (self.listens, &self.missing) {
            (false, _) => "listens on nothing".to_owned(),
            (true, Some(address)) => format!("does not listen on {address} (the one before it does)"),
            (true, None) => "has not said that it is ready".to_owned(),
        }
    }
}

/// What is asked of one who is to take another's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Terms {
    /// To be ready within this. `None`: one day.
    pub(crate) ready: Option<Duration>,
    /// To live so long after that.
    pub(crate) alive: Duration,
    /// It may listen on less than its predecessor does.
    pub(crate) fewer: bool,
}

impl Default for Terms {
    fn default() -> Self {
        Self { ready: Some(Duration::from_secs(10)), alive: Duration::from_millis(500), fewer: false }
    }
}

#[derive(Debug)]
pub(super) struct Coming {
    pub(super) why: Why,
    pub(super) generation: Generation,
    /// `None`: it is being made, or has ended.
    pub(super) worker: Option<u32>,
    order: Order,
    terms: Terms,
    begun: Option<Instant>,
    ready_at: Option<Instant>,
    lacks: String,
    /// It can never be ready.
    hopeless: bool,
}

impl Coming {
    pub(super) fn new(why: Why, generation: Generation, terms: Terms, order: Order) -> Self {
        Self {
            why,
            generation,
            worker: None,
            order,
            terms,
            begun: None,
            ready_at: None,
            lacks: "has not come so far as to listen".to_owned(),
            hopeless: false,
        }
    }

    pub(super) fn is_made_by(&self, order: Order) -> bool {
        self.worker.is_none() && self.order == order
    }

    pub(super) fn begin(&mut self, worker: u32, now: Instant) {
        self.worker = Some(worker);
        self.begun = Some(now);
    }

    pub(super) fn is_ready(&self) -> bool {
        self.ready_at.is_some()
    }

    pub(super) fn may_listen_on_less(&self) -> bool {
        self.terms.fewer
    }

    /// True when it has become ready by this. Whoever was ready and closes a listener again is not.
    pub(super) fn look(&mut self, proof: &Proof, now: Instant) -> bool {
        let was = self.is_ready();
        if proof.is_ready() {
            self.ready_at.get_or_insert(now);
        } else {
            self.ready_at = None;
            self.lacks = proof.lacks();
            if proof.manual && proof.said.is_none() {
                self.hopeless = true;
                self.lacks = "cannot say that it is ready, because it has no page of the scoreboard".to_owned();
            }
        }
        !was && self.is_ready()
    }

    pub(super) fn judge(&self, now: Instant) -> Option<Result<(), String>> {
        let worker = self.worker?;
        if let Some(at) = self.ready_at {
            return (now.saturating_duration_since(at) >= self.terms.alive).then_some(Ok(()));
        }
        let (Some(begun), Some(within)) = (self.begun, self.terms.ready) else {
            return self.hopeless.then(|| Err(format!("worker {worker} {}", self.lacks)));
        };
        let over = now.saturating_duration_since(begun) >= within;
        (over || self.hopeless).then(|| {
            let time = if over { format!(" after {:.1} s", within.as_secs_f64()) } else { String::new() };
            Err(format!("worker {worker} {}{time}", self.lacks))
        })
    }

    pub(super) fn next_at(&self) -> Option<Instant> {
        self.worker?;
        match (self.ready_at, self.begun, self.terms.ready) {
            (Some(at), ..) => Some(at + self.terms.alive),
            (None, Some(begun), Some(within)) => Some(begun + within),
            // It is looked at all the same.
            (None, Some(begun), None) => Some(begun + Duration::from_secs(365 * 24 * 3600)),
            _ => None,
        }
    }
}
