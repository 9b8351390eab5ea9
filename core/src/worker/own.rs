//! Listening without a primary: in a process that no cluster started, and where a worker wants a socket of its own.

use std::sync::Arc;

use super::leaving::Leaving;
use super::{ListenOptions, Listener};
use crate::address::Address;
use crate::bind::{self, Shape};
use crate::error::Result;
use crate::options;

/// `worker`: the sign that tells a worker to leave; without one there is nobody to ask it.
pub(super) fn listen(address: Address, options: ListenOptions, worker: Option<Arc<Leaving>>) -> Result<Listener> {
    let ListenOptions { backlog, flags, options, .. } = options;
    options::check_count(&options)?;
    let inherited = matches!(address, Address::Inherited(_));
    let bound = bind::open(&bind::resolve(address)?, None, &Shape { backlog, options }, flags)?;
    Listener::alone(bound, inherited, flags, worker)
}

/// Listens in a process that is no worker.
pub(crate) fn listen_alone(address: Address, options: ListenOptions) -> Result<Listener> {
    listen(address, options, None)
}
