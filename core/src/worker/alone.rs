//! A listening socket that this process has opened itself: it is no worker, or a worker that wants an exclusive socket.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use super::accepting::{AcceptFlags, Accepted, Accepting, SOON, accept_from};
use super::leaving::Leaving;
use crate::address::Address;
use crate::bind::{self, Bound, ListenFlags, Shape};
use crate::error::{Context, Error, Result};
use crate::sys::door;
use crate::sys::poll::{Wake, wait_readable};
use crate::sys::unix_path::SocketFile;

/// How long to wait for a directory that is locked. Not for longer, since everybody who may read it can lock it.
const LOCKED_FOR: Duration = Duration::from_millis(100);
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Opens a socket for connections or datagrams. May wait for a name server.
pub(super) fn open(address: Address, shape: &Shape, flags: ListenFlags) -> Result<Bound> {
    let address = bind::resolve(address)?;
    let deadline = Instant::now() + LOCKED_FOR;
    loop {
        match bind::open(&address, None, shape, flags) {
            Err(error) if bind::is_locked(&error) && Instant::now() < deadline => std::thread::sleep(LOOK_AGAIN),
            outcome => return outcome.map_err(bind::unless_locked),
        }
    }
}

pub(super) struct Alone {
    socket: OwnedFd,
    file: Option<SocketFile>,
    /// Wakes threads that wait in accept; closing alone would not.
    close: Wake,
    /// It is the program's (`fd:N`). Its door is not ours to shut.
    inherited: bool,
    door: Door,
    /// How a worker learns that it is to leave. `None` in a process that is no worker.
    leaving: Option<Arc<Leaving>>,
}

impl Alone {
    pub(super) fn new(bound: Bound, inherited: bool, leaving: Option<Arc<Leaving>>) -> Result<Self> {
        let Bound { socket, name, file, .. } = bound;
        let port = name.to_inet().map(|name| name.port());
        let close = Wake::new().context("eventfd")?;
        Ok(Self { socket, file, close, inherited, door: Door::new(port), leaving })
    }

    pub(super) fn is_inherited(&self) -> bool {
        self.inherited
    }

    pub(super) fn accept(&self, accepting: &Accepting, flags: AcceptFlags) -> Result<Accepted> {
        let (socket, close) = (self.socket.as_fd(), self.close.as_fd());
        // A socket that is never empty must not hide the request to leave.
        if let Some(leaving) = self.leaving.as_ref().filter(|_| !self.inherited)
            && self.door.is_time_to_ask()
            && leaving.is_asked()
        {
            self.door.shut(socket);
        }
        loop {
            accepting.check_not_closed()?;
            if let Some(taken) = accept_from(socket, flags)? {
                return Ok(taken);
            }
            let Some(leaving) = &self.leaving else {
                accepting.wait(&[socket, close])?;
                continue;
            };
            if !leaving.is_asked() {
                leaving.check_primary()?;
                accepting.wait(&[socket, close, leaving.grants()])?;
            } else if !self.inherited && self.door.shut(socket) {
                // Shut only now: first accept who came before.
            } else if self.inherited || !accepting.waits() {
                return Err(Error::shutdown());
            } else if self.door.is_quiet() {
                // A handshake that has ended meanwhile has left a connection.
                return accept_from(socket, flags)?.ok_or_else(Error::shutdown);
            } else {
                wait_readable(&[socket, close], Some(SOON)).context("poll of a listener")?;
            }
        }
    }

    /// Wakes everybody who waits for it.
    pub(super) fn finish(&self) {
        self.close.wake();
        if let Some(file) = &self.file {
            file.remove();
        }
    }
}

impl AsFd for Alone {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// How long to wait for handshakes where the kernel does not tell of any.
const UNTOLD: Duration = Duration::from_millis(200);
/// Until a SYN shows up that arrived just as the door was shut.
const MOMENT: Duration = Duration::from_millis(10);

/// The door of a socket that only this worker has, and only this worker can shut when it is to leave.
struct Door {
    /// `None`: it is a unix socket.
    port: Option<u16>,
    made: Instant,
    /// The millisecond, counted from `made`, in which the worker last looked for a request to leave.
    asked: AtomicU64,
    shut: OnceLock<Instant>,
}

impl Door {
    fn new(port: Option<u16>) -> Self {
        Self { port, made: Instant::now(), asked: AtomicU64::new(u64::MAX), shut: OnceLock::new() }
    }

    /// True once per millisecond. The look costs a system call, and a busy worker accepts many connections in that time.
    fn is_time_to_ask(&self) -> bool {
        let now = self.made.elapsed().as_millis() as u64;
        self.asked.swap(now, Ordering::Relaxed) != now
    }

    /// New clients are refused from here on; those that came before can still be accepted. (Other sockets of a SO_REUSEPORT group
    /// let them in as long as one of them is open: the kernel chooses among all.) False if it was shut before.
    fn shut(&self, listening: BorrowedFd) -> bool {
        let mut was_open = false;
        self.shut.get_or_init(|| {
            was_open = true;
            door::shut(listening, self.port.is_some());
            Instant::now()
        });
        was_open
    }

    /// No handshake is under way any more: what waits in the queue now is the last.
    fn is_quiet(&self) -> bool {
        let Some(port) = self.port else { return true };
        let lasts = self.shut.get().map_or(Duration::MAX, Instant::elapsed);
        lasts >= door::HANDSHAKES
            || (lasts >= MOMENT && door::handshakes().map_or(lasts >= UNTOLD, |ports| !ports.contains(&port)))
    }
}
