//! Listening without a primary: in a process that no cluster started, and where a worker wants a socket of its own.

use super::{ListenOptions, Listener};
use crate::address::Address;
use crate::bind;
use crate::error::Result;

pub(crate) fn listen_alone(address: Address, options: ListenOptions) -> Result<Listener> {
    let bound = bind::open(&bind::resolve(address)?, options.backlog, options.flags)?;
    Ok(Listener::alone(bound, options.flags))
}
