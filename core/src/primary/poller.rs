//! What a primary waits on, and the ways to interrupt the wait from elsewhere.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use crate::error::{Context, Result};
use crate::sys::poll::{Alarm, Interest, Poll, ReadyBatch, Wake};
use crate::token::Token;

/// The descriptors a primary waits on. Shared, so that the wait itself needs no lock.
pub struct Poller {
    pub(super) poll: Poll,
    pub(super) wake: Arc<Wake>,
    pub(super) alarm: Alarm,
}

/// What a wait brought; to be given to [`dispatch`](super::Primary::dispatch).
pub struct Ready(pub(super) ReadyBatch);

#[cfg(test)]
impl Ready {
    /// Whoever waited would sleep on.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.tokens().next().is_none()
    }
}

impl Poller {
    pub(super) fn new() -> Result<Self> {
        let poller = Self {
            poll: Poll::new().context("epoll_create1")?,
            wake: Arc::new(Wake::new().context("eventfd")?),
            alarm: Alarm::new().context("timerfd_create")?,
        };
        poller.poll.add(&*poller.wake, Token::Wake.pack(), Interest::Readable).context("epoll_ctl")?;
        poller.poll.add(&poller.alarm, Token::Alarm.pack(), Interest::Readable).context("epoll_ctl")?;
        Ok(poller)
    }

    /// Waits until there is something to do; `None` for as long as it takes. A signal ends the wait early.
    pub fn wait(&self, timeout: Option<Duration>) -> Result<Ready> {
        self.poll.wait(timeout).context("epoll_wait").map(Ready)
    }

    /// Ends a wait, or the next one, early.
    pub fn interrupt(&self) {
        self.wake.wake();
    }
}

impl AsFd for Poller {
    /// Readable when there is something to do.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.poll.as_fd()
    }
}

const NO_STOP: i64 = i64::MAX;

/// A request to stop that can be made from a signal handler.
pub struct StopRequest {
    wake: Arc<Wake>,
    milliseconds: AtomicI64,
}

impl StopRequest {
    pub(super) fn new(wake: Arc<Wake>) -> Self {
        Self { wake, milliseconds: AtomicI64::new(NO_STOP) }
    }

    /// Asks the primary to stop; a shorter deadline than one asked for before replaces it. `None`: the settings'
    /// deadline. Async-signal-safe.
    pub fn stop(&self, deadline: Option<Duration>) {
        let wanted = deadline.map_or(NO_STOP - 1, |deadline| deadline.as_millis().min(1 << 40) as i64);
        self.milliseconds.fetch_min(wanted, Ordering::SeqCst);
        self.wake.wake();
    }

    pub(super) fn take(&self) -> Option<Option<Duration>> {
        match self.milliseconds.swap(NO_STOP, Ordering::SeqCst) {
            NO_STOP => None,
            milliseconds if milliseconds == NO_STOP - 1 => Some(None),
            milliseconds => Some(Some(Duration::from_millis(milliseconds as u64))),
        }
    }

    pub(crate) fn wake(&self) -> &Arc<Wake> {
        &self.wake
    }
}
