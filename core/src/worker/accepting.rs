//! What every accept has in common, wherever its connections come from: calling accept4(2), waiting, and showing that the worker is
//! alive.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use nix::errno::Errno;

use crate::bind::ListenFlags;
use crate::error::{Context, Error, Result};
use crate::scoreboard::OwnBoard;
use crate::sys::poll::wait_readable;
use crate::sys::sockaddr::SockAddr;
use crate::sys::{pause_after, socket};

/// What an accept may set on the connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AcceptFlags {
    /// O_NONBLOCK.
    pub nonblocking: bool,
    /// FD_CLOEXEC.
    pub close_on_exec: bool,
    /// The caller does not want the peer's address. It gets none where asking for it would cost something.
    pub without_peer: bool,
}

/// A connection and its peer's address.
pub(super) type Accepted = (OwnedFd, SockAddr);

/// After a call that found nothing, this many calls wait before they look.
const LOOKS_AFTER: u32 = 8;

/// How soon to look again at a socket that is about to change: the primary repairs one that does not listen within a second, and
/// handshakes end.
pub(super) const SOON: Duration = Duration::from_millis(20);

/// The state of a listener's accepts.
pub(super) struct Accepting {
    waits: bool,
    closed: AtomicBool,
    /// This many more calls expect to find nothing.
    empty_handed: AtomicU32,
    /// How many accepts in a row found descriptors or memory short.
    shortages: AtomicU32,
    /// Where a worker counts what it takes.
    board: Option<Arc<OwnBoard>>,
}

impl Accepting {
    pub(super) fn new(flags: ListenFlags) -> Self {
        Self {
            waits: !flags.contains(ListenFlags::NONBLOCK),
            closed: AtomicBool::new(false),
            empty_handed: AtomicU32::new(0),
            shortages: AtomicU32::new(0),
            board: None,
        }
    }

    pub(super) fn count_on(&mut self, board: Option<&Arc<OwnBoard>>) {
        self.board = board.cloned();
    }

    pub(super) fn waits(&self) -> bool {
        self.waits
    }

    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }

    pub(super) fn check_not_closed(&self) -> Result<()> {
        if self.closed.load(Ordering::SeqCst) {
            return Err(Error::new(-libc::EBADF, "the listener was closed"));
        }
        Ok(())
    }

    /// True for some calls after one that found nothing. Looking in vain costs system calls. A program that is faster than its clients
    /// finds nothing at each call, so it waits first.
    pub(super) fn expects_nothing(&self) -> bool {
        let left = self.empty_handed.load(Ordering::Relaxed);
        if left > 0 {
            self.empty_handed.store(left - 1, Ordering::Relaxed);
        }
        left > 0
    }

    pub(super) fn found_nothing(&self) {
        self.empty_handed.store(LOOKS_AFTER, Ordering::Relaxed);
    }

    /// Waiting counts as a sign of life: this worker has nothing to do.
    pub(super) fn show_idle(&self) {
        if let Some(board) = &self.board {
            board.beat();
        }
    }

    /// Waits until one of them is readable; EAGAIN where the listener does not wait.
    pub(super) fn wait(&self, fds: &[BorrowedFd]) -> Result<()> {
        if !self.waits {
            return Err(nothing_there());
        }
        self.show_idle();
        wait_readable(fds, None).context("poll of a listener").map(|_| ())
    }

    /// Takes note of an accept's outcome. `counts`: the primary counts connections of this listener.
    pub(super) fn note(&self, outcome: &Result<Accepted>, counts: bool) {
        if let Some(board) = &self.board {
            if outcome.is_ok() && counts {
                board.took();
            }
            board.beat();
        }
        match outcome {
            Err(error) if self.waits && is_shortage(error) => self.slow_down(),
            _ if self.shortages.load(Ordering::Relaxed) > 0 => self.shortages.store(0, Ordering::Relaxed),
            _ => {}
        }
    }

    /// Descriptors or memory are short, and the connection stays where it is. A program that simply tries again must not spin: from
    /// the second consecutive failure, a blocking call pauses 4 to 100 ms before returning. The first returns at once, since the
    /// program may know what to close.
    fn slow_down(&self) {
        let before = self.shortages.fetch_add(1, Ordering::Relaxed);
        if before > 0 {
            pause_after(before.saturating_add(1));
        }
    }
}

pub(super) fn is_shortage(error: &Error) -> bool {
    [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::ENOBUFS].into_iter().any(|errno| error.is(errno))
}

/// This worker has turns from here on. Who calls accept says where it waits and calls it again; no program sees this.
pub(super) fn begun() -> Error {
    Error::new(-libc::ERESTART, "the worker has its turns")
}

pub(super) fn nothing_there() -> Error {
    Error::new(-libc::EAGAIN, "no connection is waiting")
}

/// After this many connections in a row that failed before they were accepted, it pauses: no client can make so many.
const FAILURES_IN_A_ROW: u32 = 16;

/// accept4(2) without the connections that failed before they were accepted. `None`: nothing waits.
pub(super) fn accept_from(listening: BorrowedFd, flags: AcceptFlags) -> Result<Option<Accepted>> {
    let mut bits = 0;
    if flags.nonblocking {
        bits |= libc::SOCK_NONBLOCK;
    }
    if flags.close_on_exec {
        bits |= libc::SOCK_CLOEXEC;
    }
    for _ in 0..FAILURES_IN_A_ROW {
        let accepted = match flags.without_peer {
            true => socket::accept_alone(listening, bits).map(|connection| (connection, SockAddr::EMPTY)),
            false => socket::accept(listening, bits),
        };
        match accepted {
            Ok(accepted) => return Ok(Some(accepted)),
            Err(Errno::EAGAIN) => return Ok(None),
            Err(errno) if socket::is_of_one_connection(errno) => {}
            Err(errno) => return Err(Error::os("accept4", errno)),
        }
    }
    pause_after(5);
    Ok(None)
}
