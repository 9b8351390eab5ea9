//! Listening sockets that Node's own code shares among workers (SCHED_NONE), and from which libuv accepts.
//!
//! libuv watches such a socket as if nobody else did, and then the kernel wakes all workers for each connection. So libuv's entry is made
//! anew once it is there, as one that is exclusive: the first in the line of those who sleep is woken. And it is made anew after some
//! connections, or that were nearly always the same one.
//!
//! libuv never changes the entry of a socket that listens, which would fail; it takes it out.

use std::cell::{Cell, RefCell};

use crate::uv;

struct Entry {
    socket: i32,
    /// It is to stand at the end of the line.
    is_due: Cell<bool>,
    /// Connections that came since it did.
    taken: Cell<u32>,
}

/// For so many connections a worker keeps its place: for a few in a row its caches are warm, and a line of many need not be even.
const IN_A_ROW: u32 = 16;

/// Those of one event loop.
#[derive(Default)]
pub(crate) struct Herd {
    /// The descriptor of the loop's epoll, once it is known.
    backend: Cell<Option<i32>>,
    entries: RefCell<Vec<Entry>>,
}

impl Herd {
    /// The loop runs, and calls `turn` in each of its turns.
    pub(crate) fn begin(&self, backend: i32) {
        self.backend.set(Some(backend));
    }

    /// libuv accepts from this socket.
    pub(crate) fn add(&self, socket: i32) {
        self.entries.borrow_mut().push(Entry { socket, is_due: Cell::new(true), taken: Cell::new(0) });
    }

    /// The socket is about to be closed.
    pub(crate) fn forget(&self, socket: i32) {
        self.entries.borrow_mut().retain(|entry| entry.socket != socket);
    }

    /// A connection came from it.
    pub(crate) fn took(&self, socket: i32) {
        for entry in self.entries.borrow().iter().filter(|entry| entry.socket == socket) {
            entry.taken.set((entry.taken.get() + 1) % IN_A_ROW);
            entry.is_due.set(entry.is_due.get() || entry.taken.get() == 0);
        }
    }

    /// Called in each turn, before the loop polls.
    pub(crate) fn turn(&self) {
        let Some(backend) = self.backend.get() else { return };
        for entry in self.entries.borrow().iter().filter(|entry| entry.is_due.get()) {
            entry.is_due.set(!uv::line::watch_exclusively(backend, entry.socket));
        }
    }
}
