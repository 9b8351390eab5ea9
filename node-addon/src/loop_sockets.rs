//! The slot's own sockets from which libuv accepts.
//!
//! When descriptors run out, libuv accepts what waits and closes it. So it may accept only while plenty are free. After that
//! connections come by the mailbox, one by one, and only if there is a descriptor for each. The same holds for a server that the
//! program limits, because it leaves connections to other workers.

//!
//! libuv watches such a socket as if nobody else did, and then the kernel wakes the primary for each connection, too: it may not pass
//! over a waiter of that kind (EPOLLEXCLUSIVE, epoll_ctl(2)). So libuv's entry is made anew once it is there, behind its back. libuv
//! never changes the entry of a socket that listens, which would fail; it takes it out.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Weak;

use cluster_core::{Listener, Worker};
use nix::sys::resource::{Resource, getrlimit};

use crate::uv;

/// How many descriptors must be free: more than the connections that may wait in a listening socket (Node's backlog is 511),
/// because libuv takes them all at once.
const PLENTY: u64 = 1024;
/// How often it is looked whether they are: a program opens a few thousand in this time at most. And after a pause as long as this the
/// loop has the time to look in any case, also for a limit that was lowered from outside.
const LOOK: u64 = 10;
const PAUSE: u64 = 3;
/// No event loop is known.
const NONE: i32 = -1;
/// No loop's clock shows this time.
const NEVER: u64 = u64::MAX;

struct OwnSocket {
    socket: i32,
    listener: Weak<Listener>,
    server: Rc<uv::Server>,
    /// The loop's entry is one that may be passed over.
    exclusive: Cell<bool>,
}

/// The sockets of one event loop.
pub(crate) struct LoopSockets {
    /// The descriptor of the loop's epoll.
    backend: Cell<i32>,
    /// The loop's time, in milliseconds, when there were plenty of descriptors, and that of its last turn.
    looked: Cell<u64>,
    turned: Cell<u64>,
    sockets: RefCell<Vec<OwnSocket>>,
}

impl Default for LoopSockets {
    fn default() -> Self {
        Self {
            backend: Cell::new(NONE),
            looked: Cell::new(NEVER),
            turned: Cell::new(NEVER),
            sockets: RefCell::default(),
        }
    }
}

impl LoopSockets {
    /// The loop runs, and calls `turn` in each of its turns.
    pub(crate) fn begin(&self, backend: i32) {
        self.backend.set(backend);
    }

    /// libuv may accept for this listener.
    pub(crate) fn is_possible(&self) -> bool {
        self.backend.get() != NONE && has_plenty()
    }

    /// libuv accepts from a socket, for a server.
    pub(crate) fn add(&self, socket: i32, listener: Weak<Listener>, server: uv::Server) {
        self.sockets.borrow_mut().push(OwnSocket {
            socket,
            listener,
            server: Rc::new(server),
            exclusive: Cell::new(false),
        });
    }

    /// The socket is about to be closed.
    pub(crate) fn forget(&self, socket: i32) {
        self.sockets.borrow_mut().retain(|own| own.socket != socket);
    }

    /// libuv is to accept from a socket no more; it stays open.
    pub(crate) fn leave(&self, socket: i32) {
        uv::forget_descriptor(self.backend.get(), socket);
        self.forget(socket);
    }

    /// Called in each turn, before the loop polls. `now`: its time, in milliseconds.
    pub(crate) fn turn(&self, worker: &Worker, now: u64) {
        self.leave_limited(worker);
        for own in self.sockets.borrow().iter().filter(|own| !own.exclusive.get()) {
            own.exclusive.set(uv::line::watch_exclusively(self.backend.get(), own.socket));
        }
        let paused = now.wrapping_sub(self.turned.replace(now)) >= PAUSE;
        if !paused && now.wrapping_sub(self.looked.get()) < LOOK {
            return;
        }
        if self.sockets.borrow().is_empty() || has_plenty() {
            self.looked.set(now);
            return;
        }
        for own in self.sockets.take() {
            self.leave_to_mailbox(&own, worker);
        }
    }

    /// A limit counts from the turn in which it was set. While the program is asked for it, sockets may come and go.
    fn leave_limited(&self, worker: &Worker) {
        let mut at = 0;
        while let Some(server) = self.server(at) {
            let limited = server.is_limited();
            let found = self.sockets.borrow().iter().position(|own| limited && Rc::ptr_eq(&own.server, &server));
            match found.map(|index| self.sockets.borrow_mut().remove(index)) {
                Some(own) => self.leave_to_mailbox(&own, worker),
                None => at += 1,
            }
        }
    }

    fn server(&self, at: usize) -> Option<Rc<uv::Server>> {
        self.sockets.borrow().get(at).map(|own| Rc::clone(&own.server))
    }

    fn leave_to_mailbox(&self, own: &OwnSocket, worker: &Worker) {
        uv::forget_descriptor(self.backend.get(), own.socket);
        if let Some(listener) = own.listener.upgrade() {
            // Without a primary nobody sends any.
            let _ = worker.unseat(&listener);
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
