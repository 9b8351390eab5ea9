//! What the primary knows, as JavaScript gets it.

use cluster_core::{HandleInfo, MechanismKind, Policy, Primary, WorkerState};
use napi_derive::napi;

/// What is known of a worker.
#[napi(object)]
pub struct WorkerStats {
    /// The engine's id of the worker.
    pub id: u32,
    /// The slot.
    pub slot: u32,
    /// Connections that it got and that were not taken back.
    pub delivered: f64,
    /// Of those, how many it has not taken yet.
    pub waiting: u32,
    /// The load that it told last.
    pub load: u32,
    /// How far it has come.
    pub state: String,
}

/// What is known of an address.
#[napi(object)]
pub struct AddressStats {
    /// The address.
    pub address: String,
    /// How its connections reach the workers.
    pub mechanism: String,
    /// Who gets the next one.
    pub policy: String,
    /// Connections the primary accepted.
    pub accepted: f64,
    /// Connections taken back from a worker that did not take them.
    pub reclaimed: f64,
    /// Connections that were accepted and dropped, because the address was given up.
    pub lost: f64,
}

/// Everything that is known.
#[napi(object)]
pub struct Stats {
    /// By worker.
    pub workers: Vec<WorkerStats>,
    /// By address.
    pub addresses: Vec<AddressStats>,
    /// What the engine did otherwise than could be expected, and why, in sentences.
    pub notices: Vec<String>,
}

impl Stats {
    pub(crate) fn of(primary: &Primary, notices: Vec<String>) -> Self {
        let worker = |id| {
            let info = primary.worker_info(id).ok()?;
            Some(WorkerStats {
                id,
                slot: info.worker.slot,
                delivered: info.delivered as f64,
                waiting: info.waiting,
                load: info.load,
                state: state(info.state).into(),
            })
        };
        let address = |info: HandleInfo| AddressStats {
            address: bound(&info),
            mechanism: mechanism(info.mechanism).into(),
            policy: policy(info.policy).into(),
            accepted: info.stats.accepted as f64,
            reclaimed: info.stats.reclaimed as f64,
            lost: info.lost as f64,
        };
        Self {
            workers: primary.worker_ids().into_iter().filter_map(worker).collect(),
            addresses: primary.handles().into_iter().map(address).collect(),
            notices,
        }
    }
}

/// The address as it was asked for, with the port that it got; of a descriptor, what it is bound to.
fn bound(info: &HandleInfo) -> String {
    match (info.name.to_inet(), info.address.rsplit_once(':')) {
        (Some(name), Some(("fd", _))) => name.to_string(),
        (Some(name), Some((host, _))) => format!("{host}:{}", name.port()),
        _ => info.address.clone(),
    }
}

fn state(state: WorkerState) -> &'static str {
    match state {
        WorkerState::Starting => "none",
        WorkerState::Online => "online",
        WorkerState::Listening => "listening",
        WorkerState::Disconnecting => "disconnecting",
        _ => "disconnected",
    }
}

fn mechanism(kind: MechanismKind) -> &'static str {
    match kind {
        MechanismKind::Passed => "passed",
        MechanismKind::Kernel => "kernel",
        _ => "shared",
    }
}

fn policy(policy: Policy) -> &'static str {
    match policy {
        Policy::None => "none",
        Policy::LeastLoaded => "least-loaded",
        Policy::SourceHash => "source-hash",
        _ => "rr",
    }
}
