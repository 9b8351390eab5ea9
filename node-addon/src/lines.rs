//! This worker's places in the lines of those who accept in rotation, from sockets that all workers have.
//!
//! The event loop watches such a socket. As soon as libuv has added it to its epoll the entry is made exclusive: then the kernel wakes
//! one worker for one connection, the first in the line of those who sleep. Whoever has had its part adds the entry anew.
//!
//! A worker that never sleeps sees whoever comes, whether it is its turn or not. One that is far ahead therefore leaves the line until
//! others have caught up, or have taken nothing for a while. In that case it takes what comes until one of them does, too.

use std::cell::{Cell, RefCell};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::rc::Rc;
use std::sync::{Arc, Weak};

use cluster_core::{Listener, Standing, Worker};
use napi::Env;

use crate::uv;

/// Connections more than the mean with which a worker stands aside, and with which it comes back.
const FAR_AHEAD: u64 = 16;
const ALMOST_EVEN: u64 = 8;
/// For how long it waits for others who take nothing, in milliseconds of the loop's clock.
const PATIENCE: u64 = 2;

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
    /// Others come first.
    Aside {
        since: u64,
        taken: u64,
    },
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
    /// What all had taken with the last one that this worker took, if nobody else takes anything.
    alone: Cell<Option<u64>>,
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
        let alone = self.alone.get().filter(|before| standing.taken == before.wrapping_add(1));
        self.alone.set(alone.map(|_| standing.taken));
        if standing.ahead > FAR_AHEAD && alone.is_none() {
            self.place.set(Place::Aside { since: lines.now.get(), taken: standing.taken });
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

    /// True if this is to be called again soon. `now`: the loop's time.
    fn settle(&self, worker: &Worker, now: u64) -> bool {
        let Some(listener) = self.listener.upgrade() else { return false };
        match self.place.get() {
            Place::Coming if !uv::line::leave(self.backend, self.socket) => return true,
            Place::Coming | Place::Failed => drop(self.enter()),
            Place::Aside { since, taken: before } => {
                let Standing { ahead, taken } = listener.standing();
                if ahead > ALMOST_EVEN {
                    let is_over = now.saturating_sub(since) >= PATIENCE;
                    if is_over && taken != before {
                        self.place.set(Place::Aside { since: now, taken });
                    }
                    if !is_over || taken != before {
                        return true;
                    }
                    self.alone.set(Some(taken));
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
    alarm: RefCell<Option<uv::line::Alarm>>,
    lines: RefCell<Vec<Rc<Line>>>,
    /// One of them is to be looked at in the next turn.
    restless: Cell<bool>,
    now: Cell<u64>,
}

impl Lines {
    /// The loop runs, and calls `turn` in each of its turns.
    pub(crate) fn begin(&self, backend: i32) {
        self.backend.set(Some(backend));
    }

    /// The event loop is about to watch the socket. `None`: it cannot keep a place in a line.
    pub(crate) fn add(&self, env: &Env, listener: &Arc<Listener>, socket: &SharedSocket) -> Option<Rc<Line>> {
        let backend = self.backend.get()?;
        if self.alarm.borrow().is_none() {
            *self.alarm.borrow_mut() = Some(uv::line::Alarm::new(env)?);
        }
        let line = Rc::new(Line {
            backend,
            socket: socket.as_fd().as_raw_fd(),
            listener: Arc::downgrade(listener),
            place: Cell::new(Place::Outside),
            alone: Cell::new(None),
            seated: Cell::new(false),
        });
        self.lines.borrow_mut().push(Rc::clone(&line));
        Some(line)
    }

    pub(crate) fn forget(&self, line: &Rc<Line>) {
        line.leave();
        self.lines.borrow_mut().retain(|known| !Rc::ptr_eq(known, line));
    }

    /// Called in each turn, before the loop polls. `now`: its time, in milliseconds.
    pub(crate) fn turn(&self, worker: &Worker, now: u64) {
        self.now.set(now);
        if !self.restless.replace(false) {
            return;
        }
        // Each is to be settled.
        let restless = self.lines.borrow().iter().filter(|line| line.settle(worker, now)).count() > 0;
        if let Some(alarm) = self.alarm.borrow().as_ref().filter(|_| restless) {
            self.restless.set(true);
            alarm.set(1);
        }
    }
}
