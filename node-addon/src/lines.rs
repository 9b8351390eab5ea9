//! This worker's places in the lines of those who accept in rotation, from sockets that all workers have.
//!
//! The event loop watches such a socket. As soon as libuv has added it to its epoll the entry is made exclusive: then the kernel wakes
//! one worker for one connection, the first in the line of those who sleep. Whoever has had its part adds the entry anew.
//!
//! A worker that never sleeps sees whoever comes, whether it is its turn or not. One that is far ahead therefore leaves the line until
//! others have caught up, or nobody takes anything, or it would sleep.

use std::cell::{Cell, RefCell};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::rc::Rc;
use std::sync::{Arc, Weak};

use cluster_core::{Listener, Worker};
use napi::Env;

use crate::uv;

/// Connections more than the mean with which a worker stands aside, and with which it comes back.
const FAR_AHEAD: u64 = 16;
const ALMOST_EVEN: u64 = 8;

/// The socket of a listener that may accept in rotation.
pub(crate) struct SharedSocket(Arc<Listener>);

impl SharedSocket {
    pub(crate) fn of(listener: &Arc<Listener>) -> Option<Self> {
        listener.socket_in_turn().is_some().then(|| Self(Arc::clone(listener)))
    }
}

impl AsFd for SharedSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.socket_in_turn().unwrap_or_else(|| self.0.as_fd())
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// libuv has not added the socket yet.
    Coming,
    Within,
    /// Others come first. What all had taken when it was last looked at.
    Aside(u64),
    /// The kernel was short of memory for an entry.
    Failed,
    Outside,
}

/// One socket's.
pub(crate) struct Line {
    backend: i32,
    socket: i32,
    listener: Weak<Listener>,
    place: Cell<Place>,
    /// The primary was told.
    seated: Cell<bool>,
}

impl Line {
    /// A connection was taken.
    pub(crate) fn took(&self, listener: &Listener, had_its_part: bool, lines: &Lines) {
        if self.place.get() != Place::Within || !had_its_part {
            return;
        }
        uv::line::leave(self.backend, self.socket);
        let standing = listener.standing();
        if standing.ahead > FAR_AHEAD {
            self.place.set(Place::Aside(standing.taken));
            lines.restless.set(true);
        } else if !self.enter() {
            lines.restless.set(true);
        }
    }

    fn enter(&self) -> bool {
        let is_within = uv::line::enter(self.backend, self.socket);
        self.place.set(if is_within { Place::Within } else { Place::Failed });
        is_within
    }

    /// The event loop watches it from here on.
    pub(crate) fn come(&self, lines: &Lines) {
        self.place.set(Place::Coming);
        lines.restless.set(true);
    }

    /// Before the event loop ceases to watch it, and for good before the socket is closed: other processes have it, too.
    pub(crate) fn leave(&self) {
        if self.place.replace(Place::Outside) != Place::Outside {
            uv::line::leave(self.backend, self.socket);
        }
    }

    /// `sleeps`: the loop is about to. True if this is to be called again before it does.
    fn settle(&self, worker: &Worker, sleeps: bool) -> bool {
        let Some(listener) = self.listener.upgrade() else { return false };
        match self.place.get() {
            Place::Coming if !uv::line::leave(self.backend, self.socket) => return true,
            Place::Coming | Place::Failed => drop(self.enter()),
            Place::Aside(before) => {
                let standing = listener.standing();
                if !sleeps && standing.ahead > ALMOST_EVEN && standing.taken != before {
                    self.place.set(Place::Aside(standing.taken));
                    return true;
                }
                self.enter();
            }
            Place::Within | Place::Outside => return false,
        }
        if self.place.get() == Place::Failed {
            self.give_up(worker, &listener);
        } else if !self.seated.replace(true) {
            // Without a primary nobody counts on it.
            let _ = worker.seat(&listener);
        }
        false
    }

    /// From here on the mailbox has to do.
    pub(crate) fn give_up(&self, worker: &Worker, listener: &Listener) {
        if self.seated.replace(false) {
            // Without a primary nobody sends any.
            let _ = worker.unseat(listener);
        }
    }
}

/// Those of one event loop.
#[derive(Default)]
pub(crate) struct Lines {
    /// The descriptor of the loop's epoll, once it is known.
    backend: Cell<Option<i32>>,
    awake: RefCell<Option<uv::line::Awake>>,
    lines: RefCell<Vec<Rc<Line>>>,
    /// One of them is to be looked at before the loop sleeps.
    restless: Cell<bool>,
}

impl Lines {
    /// The loop runs, and calls `turn` in each of its turns.
    pub(crate) fn begin(&self, backend: i32) {
        self.backend.set(Some(backend));
    }

    /// The event loop is about to watch the socket. `None`: it cannot keep a place in a line.
    pub(crate) fn add(&self, env: &Env, listener: &Arc<Listener>, socket: &SharedSocket) -> Option<Rc<Line>> {
        let backend = self.backend.get()?;
        if self.awake.borrow().is_none() {
            *self.awake.borrow_mut() = Some(uv::line::Awake::new(env)?);
        }
        let line = Rc::new(Line {
            backend,
            socket: socket.as_fd().as_raw_fd(),
            listener: Arc::downgrade(listener),
            place: Cell::new(Place::Outside),
            seated: Cell::new(false),
        });
        self.lines.borrow_mut().push(Rc::clone(&line));
        Some(line)
    }

    pub(crate) fn forget(&self, line: &Rc<Line>) {
        line.leave();
        self.lines.borrow_mut().retain(|known| !Rc::ptr_eq(known, line));
    }

    /// Called in each turn, before the loop polls. `sleeps`: whether it would.
    pub(crate) fn turn(&self, worker: &Worker, sleeps: impl FnOnce() -> bool) {
        if !self.restless.replace(false) {
            return;
        }
        let awake = self.awake.borrow();
        let Some(awake) = awake.as_ref() else { return };
        awake.end();
        let sleeps = sleeps();
        let restless = self.lines.borrow().iter().fold(false, |restless, line| line.settle(worker, sleeps) || restless);
        if restless {
            self.restless.set(true);
            // A loop that has descriptors yet to be added says that it would not sleep, and may do so nevertheless.
            awake.begin();
        }
    }
}
