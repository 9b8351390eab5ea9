//! Listening without a primary: in a process that no cluster started, and where a worker wants a socket of its own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::leaving::Leaving;
use super::{ListenOptions, Listener};
use crate::address::Address;
use crate::bind::{self, Shape};
use crate::error::Result;
use crate::options;

/// How long a directory that somebody else has locked is waited for, which may be for nothing: whoever may read it can lock it.
const LOCKED_FOR: Duration = Duration::from_millis(100);
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// `worker`: the sign that tells a worker to leave; without one there is nobody to ask it.
pub(super) fn listen(address: Address, options: ListenOptions, worker: Option<Arc<Leaving>>) -> Result<Listener> {
    let ListenOptions { backlog, flags, options, .. } = options;
    options::check_count(&options)?;
    let inherited = matches!(address, Address::Inherited(_));
    let (address, shape) = (bind::resolve(address)?, Shape { backlog, options });
    let deadline = Instant::now() + LOCKED_FOR;
    let bound = loop {
        match bind::open(&address, None, &shape, flags) {
            Err(error) if bind::is_locked(&error) && Instant::now() < deadline => std::thread::sleep(LOOK_AGAIN),
            outcome => break outcome.map_err(bind::unless_locked)?,
        }
    };
    Listener::alone(bound, inherited, flags, worker)
}

/// Listens in a process that is no worker.
pub(crate) fn listen_alone(address: Address, options: ListenOptions) -> Result<Listener> {
    listen(address, options, None)
}
