#![allow(unsafe_code)] // nix makes an eventfd and a timer of a moved descriptor only on the caller's word.
//! One descriptor for everything the primary waits for: an epoll over sockets, pidfds, a timerfd and an eventfd.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use super::{Sys, descriptor, pause_after};

/// What to watch a descriptor for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Interest {
    /// Nothing but errors.
    None,
    /// Readable, level-triggered.
    Readable,
    /// Readable, told once.
    ReadableOnce,
    /// Readable, as an edge, and only if none of those who watch it so and were there before waits at that moment (EPOLLEXCLUSIVE). The
    /// kernel changes it into nothing else; it is removed and added again.
    ReadableByNobody,
    /// Writable, as an edge: when room appears.
    RoomAppears,
    /// Readable or writable, level-triggered.
    ReadableOrWritable,
}

impl Interest {
    fn flags(self) -> EpollFlags {
        match self {
            Interest::None => EpollFlags::EPOLLET,
            Interest::Readable => EpollFlags::EPOLLIN,
            Interest::ReadableOnce => EpollFlags::EPOLLIN | EpollFlags::EPOLLONESHOT,
            Interest::ReadableByNobody => EpollFlags::EPOLLIN | EpollFlags::EPOLLET | EpollFlags::EPOLLEXCLUSIVE,
            Interest::RoomAppears => EpollFlags::EPOLLOUT | EpollFlags::EPOLLET,
            Interest::ReadableOrWritable => EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT,
        }
    }
}

/// An epoll instance with owned registration by token.
pub(crate) struct Poll {
    epoll: Epoll,
    /// A registration has failed: epoll_ctl(2) may be short of memory.
    failed: AtomicBool,
}

/// A batch of tokens that are ready.
pub(crate) struct ReadyBatch {
    events: [EpollEvent; 64],
    count: usize,
}

impl ReadyBatch {
    pub(crate) fn tokens(&self) -> impl Iterator<Item = u64> + '_ {
        self.events[..self.count].iter().map(EpollEvent::data)
    }
}

impl Poll {
    pub(crate) fn new() -> Sys<Self> {
        super::panics::point();
        let epoll = Epoll(descriptor::above_standard(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?.0)?);
        Ok(Self { epoll, failed: AtomicBool::new(false) })
    }

    /// An epoll of the program's, through a descriptor of our own.
    pub(crate) fn of_program(epoll: BorrowedFd) -> Sys<Self> {
        Ok(Self { epoll: Epoll(descriptor::duplicate(epoll)?), failed: AtomicBool::new(false) })
    }

    pub(crate) fn add(&self, fd: impl AsFd, token: u64, interest: Interest) -> Sys<()> {
        super::panics::point();
        self.note(self.epoll.add(fd, EpollEvent::new(interest.flags(), token)))
    }

    /// Watches a listening socket that several processes watch: only some of them are woken (EPOLLEXCLUSIVE).
    pub(crate) fn add_exclusive(&self, fd: impl AsFd, token: u64) -> Sys<()> {
        self.note(self.epoll.add(fd, EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLEXCLUSIVE, token)))
    }

    pub(crate) fn modify(&self, fd: impl AsFd, token: u64, interest: Interest) -> Sys<()> {
        super::panics::point();
        self.note(self.epoll.modify(fd, &mut EpollEvent::new(interest.flags(), token)))
    }

    /// Watches for one connection, or that it is shut down, what may be watched already.
    pub(crate) fn watch_once(&self, fd: impl AsFd, token: u64) -> Sys<()> {
        let mut event = EpollEvent::new(Interest::ReadableOnce.flags(), token);
        match self.epoll.modify(&fd, &mut event) {
            Err(Errno::ENOENT) => self.epoll.add(fd, event),
            outcome => outcome,
        }
    }

    fn note(&self, outcome: Sys<()>) -> Sys<()> {
        outcome.inspect_err(|_| self.failed.store(true, Ordering::Relaxed))
    }

    /// True once after something could not be registered or changed, so that its events may go unnoticed.
    pub(crate) fn take_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed) && self.failed.swap(false, Ordering::Relaxed)
    }

    /// Must come before the descriptor is closed wherever another process may hold a copy of it: epoll keeps an
    /// entry until the last copy is closed.
    pub(crate) fn remove(&self, fd: impl AsFd) {
        let _ = self.epoll.delete(fd);
    }

    /// Waits; `None` waits for ever. A signal ends the wait with an empty batch.
    pub(crate) fn wait(&self, timeout: Option<Duration>) -> Sys<ReadyBatch> {
        super::panics::point();
        let mut batch = ReadyBatch { events: [EpollEvent::empty(); 64], count: 0 };
        let timeout = match timeout {
            None => EpollTimeout::NONE,
            // Rounded up, or a caller that waits for a deadline would spin through the last millisecond.
            Some(timeout) => EpollTimeout::try_from(timeout.as_micros().div_ceil(1000)).unwrap_or(EpollTimeout::MAX),
        };
        match self.epoll.wait(&mut batch.events, timeout) {
            Ok(count) => batch.count = count,
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
        Ok(batch)
    }
}

impl AsFd for Poll {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.0.as_fd()
    }
}

/// Wakes a `Poll` from another thread or from a signal handler.
pub(crate) struct Wake(EventFd);

impl Wake {
    pub(crate) fn new() -> Sys<Self> {
        super::panics::point();
        let made = EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        let moved = descriptor::above_standard(made.into())?;
        // SAFETY: it is the eventfd that was just made.
        Ok(Self(unsafe { EventFd::from_owned_fd(moved) }))
    }

    /// Async-signal-safe: one write(2).
    pub(crate) fn wake(&self) {
        let _ = self.0.write(1);
    }

    pub(crate) fn clear(&self) {
        let _ = self.0.read();
    }
}

impl AsFd for Wake {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A timer that becomes readable.
pub(crate) struct Alarm(TimerFd);

impl Alarm {
    pub(crate) fn new() -> Sys<Self> {
        super::panics::point();
        let made = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK)?;
        let moved = descriptor::above_standard(made.into())?;
        // SAFETY: it is the timer that was just made.
        Ok(Self(unsafe { TimerFd::from_owned_fd(moved) }))
    }

    /// Sets the alarm to an instant, or switches it off.
    pub(crate) fn set(&self, at: Option<Instant>) -> Sys<()> {
        super::panics::point();
        match at {
            None => self.0.unset(),
            Some(at) => {
                // Zero would switch the timer off, so a time that has passed is the next nanosecond.
                let left = at.saturating_duration_since(Instant::now()).max(Duration::from_nanos(1));
                self.0.set(Expiration::OneShot(TimeSpec::from_duration(left)), TimerSetTimeFlags::empty())
            }
        }
    }

    /// Takes an expiry, so that the descriptor is no longer readable.
    pub(crate) fn clear(&self) {
        // wait() is read(2); with TFD_NONBLOCK it returns at once.
        let _ = self.0.wait();
    }
}

impl AsFd for Alarm {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// What became of a wait for one descriptor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Waited {
    Ready,
    TimedOut,
}

/// True when the other end of a socket sends no more, whatever is still to be read.
pub(crate) fn is_hung_up(fd: BorrowedFd) -> bool {
    let mut polled = [PollFd::new(fd, PollFlags::from_bits_retain(libc::POLLRDHUP))];
    // nix does not know POLLRDHUP and reports it as "none of the flags".
    nix::poll::poll(&mut polled, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
        && polled[0].revents().is_none_or(|revents| revents.intersects(PollFlags::POLLHUP | PollFlags::POLLERR))
}

/// Waits until one of the descriptors is readable (or hung up), for the whole time in spite of signals. `None`: for ever.
pub(crate) fn wait_readable(fds: &[BorrowedFd], timeout: Option<Duration>) -> Sys<Waited> {
    super::panics::point();
    wait_for(fds, PollFlags::POLLIN, timeout)
}

/// Waits until a descriptor is writable.
pub(crate) fn wait_writable(fd: BorrowedFd) -> Sys<Waited> {
    wait_for(&[fd], PollFlags::POLLOUT, None)
}

/// The most descriptors that anybody here waits for at once.
const WAIT_MAX: usize = 3;

/// How often a wait for which memory was short is tried again.
const PATIENCE: u32 = 8;

fn wait_for(fds: &[BorrowedFd], events: PollFlags, timeout: Option<Duration>) -> Sys<Waited> {
    let Some(first) = fds.first() else { return Ok(Waited::TimedOut) };
    let mut polled: [PollFd; WAIT_MAX] =
        std::array::from_fn(|index| PollFd::new(*fds.get(index).unwrap_or(first), events));
    let polled = &mut polled[..fds.len().min(WAIT_MAX)];
    let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let mut failures = 0;
    loop {
        let left = match deadline {
            None => PollTimeout::NONE,
            Some(deadline) => {
                let left = deadline.saturating_duration_since(Instant::now());
                PollTimeout::try_from(left.as_micros().div_ceil(1000)).unwrap_or(PollTimeout::MAX)
            }
        };
        match nix::poll::poll(polled, left) {
            Ok(0) if deadline.is_none_or(|deadline| Instant::now() < deadline) => {}
            Ok(0) => return Ok(Waited::TimedOut),
            Ok(_) => return Ok(Waited::Ready),
            Err(Errno::EINTR) => {}
            // A caller that waits can wait a little longer. The primary only asks, without waiting.
            Err(Errno::ENOMEM) if timeout != Some(Duration::ZERO) && failures < PATIENCE => {
                pause_after(failures);
                failures += 1;
            }
            Err(errno) => return Err(errno),
        }
    }
}
