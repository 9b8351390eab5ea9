//! Listening without a primary: in a process that no cluster started, and where a worker wants a socket of its own.

use std::os::fd::BorrowedFd;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use super::leaving::Leaving;
use super::{ListenOptions, Listener};
use crate::address::Address;
use crate::bind::{self, Shape};
use crate::error::Result;
use crate::options;
use crate::sys::door;
use crate::sys::sockaddr::SockAddr;

/// The same where the kernel does not tell of any.
const UNTOLD: Duration = Duration::from_millis(200);
/// Until a SYN shows that met the socket in the moment in which its door was shut.
const MOMENT: Duration = Duration::from_millis(10);

/// The door of a socket of a worker's own, which nobody but that worker can shut when it is to leave.
#[derive(Default)]
pub(super) struct Door(OnceLock<Instant>);

impl Door {
    /// Whoever comes from here on is refused; who had come can still be accepted. (Other sockets of a SO_REUSEPORT group let them in
    /// as long as one of them is open: the kernel chooses among all.)
    pub(super) fn shut(&self, listening: BorrowedFd, name: &SockAddr) {
        self.0.get_or_init(|| {
            door::shut(listening, name.to_inet().is_some());
            Instant::now()
        });
    }

    /// Nobody who had come is still on the way; what waits in the queue after this is the last.
    pub(super) fn is_quiet(&self, name: &SockAddr) -> bool {
        let Some(name) = name.to_inet() else { return true };
        let lasts = self.0.get().map_or(Duration::MAX, Instant::elapsed);
        lasts >= door::HANDSHAKES
            || (lasts >= MOMENT && door::handshakes().map_or(lasts >= UNTOLD, |ports| !ports.contains(&name.port())))
    }
}

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
