//! What the primary knows, as JavaScript gets it.

use cluster_core::{HandleInfo, Primary};
use napi_derive::napi;

use crate::names;

/// What is known of a worker.
#[napi(object)]
pub struct WorkerStats {
    /// The engine's id of the worker.
    pub id: u32,
    /// The slot.
    pub slot: u32,
    /// Connections that it got and that were not taken back.
    pub delivered: f64,
    /// Of those, how many still wait.
    pub waiting: u32,
    /// The load that it told last.
    pub load: u32,
    /// Its generation.
    pub generation: u32,
    /// It may take another's place, or has.
    pub ready: bool,
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
                generation: info.generation,
                ready: info.ready,
            })
        };
        let address = |info: HandleInfo| AddressStats {
            address: bound(&info),
            mechanism: names::name_of_mechanism(info.mechanism).into(),
            policy: names::name_of_policy(info.policy).into(),
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

/// The address as it was asked for, with its real port. For a descriptor, what it is bound to.
fn bound(info: &HandleInfo) -> String {
    match (info.name.to_inet(), info.address.rsplit_once(':')) {
        (Some(name), Some(("fd", _))) => name.to_string(),
        (Some(name), Some((host, _))) => format!("{host}:{}", name.port()),
        _ => info.address.clone(),
    }
}
