//! A member's own queue in the kernel: the listening socket of its slot, from which its worker accepts, and the primary in
//! its stead; and whether the worker keeps up with it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use super::Accepted;
use super::passed::accept_one;
use super::watch::{LOOKS, Look, Watched};
use crate::sys::poll::{Interest, Poll};
use crate::sys::socket;
use crate::token::Token;

/// Connections that a member may be given between two looks; more are a reason to look sooner.
const BETWEEN_LOOKS: u64 = 8;

/// How often one is looked at that seems to stand still, until that is certain.
const LOOKS_AT_A_SUSPECT: u32 = 4;

pub(crate) struct Queue {
    socket: OwnedFd,
    /// What the poll was last told; `None`: it does not know the socket.
    watched: Option<(Token, Interest)>,
    /// Connections that were begun with the slot before it was this member's.
    assigned_before: u64,
    /// Those until the last look.
    assigned: u64,
    /// What the primary accepted in the worker's stead.
    rescued: u64,
    /// Connections come; else the poll tells when the next does.
    busy: bool,
    /// Nothing is left to be rescued, as far as is known.
    drained: bool,
    stands: Standstill,
}

/// For how long nothing has been taken although something waits.
#[derive(Default)]
struct Standstill {
    /// What showed progress at the last look; `None`: nothing waited then.
    sign: Option<u64>,
    since: Duration,
    /// Nothing had moved between two looks, and from then on it counts.
    suspected: bool,
    /// How long the worker had waited for a processor by then.
    waited: Option<Duration>,
}

impl Standstill {
    /// How long it has been, not counting the time in which the worker had no processor.
    fn look(&mut self, look: &Look, worker: u32, taken: u64) -> Duration {
        let sign = Some(look.workers.sign_of_life(worker).unwrap_or(taken));
        if self.sign != sign {
            *self = Self { sign, ..Self::default() };
            return Duration::ZERO;
        }
        if !self.suspected {
            self.suspected = true;
            self.waited = look.workers.waited_for_processor(worker);
            return Duration::ZERO;
        }
        self.since += look.evidence();
        // Asked for only now, because it takes a file of /proc.
        if self.since >= look.patience
            && let (Some(before), Some(now)) = (self.waited, look.workers.waited_for_processor(worker))
        {
            self.since = self.since.saturating_sub(now.saturating_sub(before));
            self.waited = Some(now);
        }
        self.since
    }
}

/// What a look at a queue found.
pub(super) enum Seen {
    /// The worker keeps up, as far as can be told.
    Moving(Watched),
    /// It has stood still for too long.
    Stuck,
    /// Somebody shut the socket down, which only the worker can.
    Gone,
}

impl Queue {
    /// `assigned`: connections that were begun with the slot before.
    pub(super) fn new(socket: OwnedFd, assigned: u64) -> Self {
        Self {
            socket,
            watched: None,
            assigned_before: assigned,
            assigned,
            rescued: 0,
            busy: false,
            drained: false,
            stands: Standstill::default(),
        }
    }

    pub(super) fn into_socket(self) -> OwnedFd {
        self.socket
    }

    /// What the worker gets a copy of.
    pub(crate) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Connections that nobody has accepted; `None` when the socket does not listen any more.
    pub(super) fn waiting(&self) -> Option<u32> {
        socket::listening_backlog(self.socket.as_fd()).unwrap_or(None)
    }

    /// Connections the worker has been given, of so many that were begun with the slot.
    pub(super) fn given(&self, assigned: u64) -> u64 {
        assigned.saturating_sub(self.assigned_before).saturating_sub(self.rescued)
    }

    pub(super) fn is_busy(&self) -> bool {
        self.busy
    }

    pub(super) fn is_drained(&self) -> bool {
        self.drained
    }

    /// Something may wait in it.
    pub(super) fn expect_some(&mut self) {
        self.busy = true;
        self.drained = false;
    }

    /// Accepts in the worker's stead.
    pub(super) fn take(&mut self) -> Accepted {
        // The flag belongs to the open file, which the worker has too, and the primary must never wait (rule R5).
        if socket::set_nonblocking(self.socket.as_fd()).is_err() {
            return Accepted::Short;
        }
        let accepted = accept_one(self.socket.as_fd());
        match accepted {
            Accepted::Connection(_) => self.rescued += 1,
            Accepted::Nothing => self.drained = true,
            Accepted::Short => {}
        }
        accepted
    }

    /// One look of the watch, while its worker has its turns. `assigned`: connections begun with the slot.
    pub(super) fn look(&mut self, look: &Look, worker: u32, assigned: u64) -> Seen {
        if !self.busy {
            return Seen::Moving(Watched::default());
        }
        let Some(waiting) = self.waiting() else { return Seen::Gone };
        let fresh = assigned.saturating_sub(self.assigned);
        self.assigned = assigned;
        if waiting == 0 {
            self.stands = Standstill::default();
            self.busy = fresh > 0;
        } else if self.stands.look(look, worker, assigned.saturating_sub(waiting.into())) >= look.patience {
            self.stands = Standstill::default();
            self.drained = false;
            return Seen::Stuck;
        }
        let mut next = look.interval.mul_f64(BETWEEN_LOOKS as f64 / fresh.max(1) as f64);
        if self.stands.suspected {
            next = next.min(look.patience / LOOKS_AT_A_SUSPECT);
        }
        let again = self.busy.then_some(next.clamp(LOOKS.0, LOOKS.1));
        // One that has become quiet is left to the poll, which has to be told.
        Seen::Moving(Watched { again, changed: !self.busy })
    }

    /// Watches it, under a token that says whose it is.
    pub(super) fn watch(&mut self, poll: &Poll, token: Token, interest: Interest) {
        let told = match self.watched {
            None => poll.add(&self.socket, token.pack(), interest),
            Some(before) if before == (token, interest) => return,
            Some(_) => poll.modify(&self.socket, token.pack(), interest),
        };
        if told.is_ok() {
            self.watched = Some((token, interest));
        }
    }

    /// An event has come; one that comes once does not come again.
    pub(super) fn told(&mut self) {
        if let Some((_, interest @ Interest::ReadableOnce)) = &mut self.watched {
            *interest = Interest::None;
        }
        self.expect_some();
    }

    /// Must come before it is dropped: the worker may have a copy.
    pub(super) fn forget(&mut self, poll: &Poll) {
        if self.watched.take().is_some() {
            poll.remove(&self.socket);
        }
    }
}
