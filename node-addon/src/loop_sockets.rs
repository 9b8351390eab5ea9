//! The slot's own sockets from which libuv accepts.
//!
//! When descriptors run out, libuv accepts what waits and closes it. So it may accept only while plenty are free. After that
//! connections come by the mailbox, one by one, and only if there is a descriptor for each.

use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, Weak};

use cluster_core::{Listener, Worker};
use nix::sys::resource::{Resource, getrlimit};

use crate::uv;

/// How many descriptors must be free: more than the connections that may wait in a listening socket (Node's backlog is 511),
/// because libuv takes them all at once.
const PLENTY: u64 = 1024;
/// No event loop is known.
const NONE: i32 = -1;
/// No loop's clock shows this time.
const NEVER: u64 = u64::MAX;

struct OwnSocket {
    socket: i32,
    listener: Weak<Listener>,
}

/// The sockets of one event loop.
pub(crate) struct LoopSockets {
    /// The descriptor of the loop's epoll.
    backend: AtomicI32,
    /// The loop's time, in milliseconds, when there were plenty of descriptors.
    looked: AtomicU64,
    sockets: Mutex<Vec<OwnSocket>>,
}

impl Default for LoopSockets {
    fn default() -> Self {
        Self { backend: AtomicI32::new(NONE), looked: AtomicU64::new(NEVER), sockets: Mutex::default() }
    }
}

impl LoopSockets {
    fn lock(&self) -> MutexGuard<'_, Vec<OwnSocket>> {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The loop runs, and calls `turn` in each of its turns.
    pub(crate) fn begin(&self, backend: i32) {
        self.backend.store(backend, Ordering::Relaxed);
    }

    /// libuv may accept for this listener.
    pub(crate) fn is_possible(&self) -> bool {
        self.backend.load(Ordering::Relaxed) != NONE && has_plenty()
    }

    /// libuv accepts from a socket.
    pub(crate) fn add(&self, socket: i32, listener: Weak<Listener>) {
        self.lock().push(OwnSocket { socket, listener });
    }

    /// The socket is about to be closed.
    pub(crate) fn forget(&self, socket: i32) {
        self.lock().retain(|own| own.socket != socket);
    }

    /// libuv is to accept from a socket no more; it stays open.
    pub(crate) fn leave(&self, socket: i32) {
        uv::forget_descriptor(self.backend.load(Ordering::Relaxed), socket);
        self.forget(socket);
    }

    /// Called in each turn, before the loop polls. `now`: its time, in milliseconds. It looks once in a millisecond, in which a
    /// program opens a few hundred descriptors at most.
    pub(crate) fn turn(&self, worker: &Worker, now: u64) {
        if self.looked.load(Ordering::Relaxed) == now {
            return;
        }
        let mut sockets = self.lock();
        if sockets.is_empty() || has_plenty() {
            self.looked.store(now, Ordering::Relaxed);
            return;
        }
        for own in sockets.drain(..) {
            uv::forget_descriptor(self.backend.load(Ordering::Relaxed), own.socket);
            if let Some(listener) = own.listener.upgrade() {
                // Without a primary nobody sends any.
                let _ = worker.unseat(&listener);
            }
        }
    }
}

/// The kernel gives the lowest free descriptor. So if the first of the last `PLENTY` numbers is free, all of them are.
fn has_plenty() -> bool {
    let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft);
    match limit.checked_sub(PLENTY).and_then(|first| i32::try_from(first).ok()) {
        Some(first) => !uv::is_descriptor(first),
        None => limit > PLENTY,
    }
}
