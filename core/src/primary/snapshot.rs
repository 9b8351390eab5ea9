//! What is known of workers and addresses: the one source of what the program is told of them.

use std::time::Duration;

use super::event::WorkerRef;
use super::listen::Addresses;
use super::workers::{Entry, WorkerState};
use crate::fleet::Generation;
use crate::handle::{Handle, HandleStats};
use crate::policy::Policy;
use crate::scoreboard::Counts;
use crate::settings::MechanismKind;
use crate::sys::process;
use crate::sys::sockaddr::SockAddr;

/// What is known of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkerInfo {
    /// Who.
    pub worker: WorkerRef,
    /// How far it has come.
    pub state: WorkerState,
    /// Connections passed to it and not taken back, and those that it says it has accepted itself (`shared`, `kernel`).
    pub delivered: u64,
    /// Connections that wait for it.
    pub waiting: u32,
    /// The load it told last.
    pub load: u32,
    /// Another value whenever it has looked for connections, or its event loop has turned; `None` if it does not tell.
    pub progress: Option<u64>,
    /// All workers that were made by one recipe; see [`Primary::reload`](super::Primary::reload).
    pub generation: Generation,
    /// It could take another's place, or has.
    pub ready: bool,
    /// What its program counts.
    pub counts: Counts,
    /// How long ago it was started.
    pub age: Duration,
}

/// What a process has used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// The memory that it has for itself, in KiB: RssAnon of proc_pid_status(5).
    pub anonymous_kib: u64,
    /// Of its first threads.
    pub processor: Duration,
}

impl WorkerInfo {
    /// What its process has used, as the kernel says it now; nothing where there is no /proc.
    pub fn usage(&self) -> Usage {
        let pid = self.worker.pid;
        Usage {
            anonymous_kib: process::anonymous_kib(pid).unwrap_or(0),
            processor: process::processor_time(pid).map_or(Duration::ZERO, |time| time.ran),
        }
    }
}

/// What is known of an address.
#[derive(Debug, Clone)]
pub struct HandleInfo {
    /// The address as it was asked for.
    pub address: String,
    /// The bound address.
    pub name: SockAddr,
    /// How its connections reach the workers.
    pub mechanism: MechanismKind,
    /// Who gets the next one.
    pub policy: Policy,
    /// Its counters.
    pub stats: HandleStats,
    /// Connections that were accepted and had to be dropped, because the address was given up; counted over all the
    /// times it was open.
    pub lost: u64,
}

pub(super) fn of_worker(entry: &Entry, addresses: &Addresses) -> WorkerInfo {
    let known = entry.delivered_before + addresses.iter().map(|handle| handle.given_to(entry.id)).sum::<u64>();
    WorkerInfo {
        worker: entry.reference(),
        state: entry.state,
        delivered: known.max(entry.board.taken()),
        waiting: addresses.iter().map(|handle| handle.waiting_for(entry.id)).sum(),
        load: entry.board.load().load,
        progress: entry.board.progress(),
        generation: entry.generation,
        ready: entry.ready,
        counts: entry.board.counts(),
        age: entry.started.elapsed(),
    }
}

pub(super) fn of_addresses(addresses: &Addresses) -> Vec<HandleInfo> {
    let info = |handle: &Handle| HandleInfo {
        address: handle.address.clone(),
        name: handle.name,
        mechanism: handle.mechanism(),
        policy: if handle.mechanism() == MechanismKind::Shared { Policy::None } else { handle.policy() },
        stats: handle.stats(),
        lost: addresses.lost(&handle.key),
    };
    addresses.iter().map(info).collect()
}
