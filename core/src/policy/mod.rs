//! Who gets the next connection. Pure: a policy sees slots, whether they are open, and what is known of them, nothing else.

mod least_loaded;
mod round_robin;
mod source_hash;

pub(crate) use least_loaded::{Burden, LeastLoaded, Load, Told};
pub(crate) use round_robin::RoundRobin;
pub(crate) use source_hash::{Table, hash_of_client};

/// How connections are spread over the workers. The numbers are those of the C interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Policy {
    /// Every worker accepts from the shared listening socket; the kernel decides. Not fair.
    None = 1,
    /// Each open worker in turn.
    #[default]
    RoundRobin = 2,
    /// The open worker with the least load.
    LeastLoaded = 3,
    /// The slot that belongs to the client's address.
    SourceHash = 4,
}

/// A policy at work: what it remembers between two choices.
pub(crate) enum Chooser {
    RoundRobin(RoundRobin),
    LeastLoaded(LeastLoaded),
    SourceHash(Table),
}

impl Chooser {
    /// `seed`: what keeps clients from aiming at a slot. The kernel needs no chooser for `Policy::None`.
    pub(crate) fn new(policy: Policy, seed: u32) -> Self {
        match policy {
            Policy::None | Policy::RoundRobin => Self::RoundRobin(RoundRobin::default()),
            Policy::LeastLoaded => Self::LeastLoaded(LeastLoaded::default()),
            Policy::SourceHash => Self::SourceHash(Table::new(seed)),
        }
    }

    pub(crate) fn policy(&self) -> Policy {
        match self {
            Self::RoundRobin(_) => Policy::RoundRobin,
            Self::LeastLoaded(_) => Policy::LeastLoaded,
            Self::SourceHash(_) => Policy::SourceHash,
        }
    }
}
