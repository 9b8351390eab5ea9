#![allow(unsafe_code)] // sigaction(2) and what runs inside a signal handler.
//! SIGTERM and SIGINT as a request to stop, for primaries that asked for it. Of workers see `worker_signals`; nothing else in
//! this crate touches a signal disposition.

use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, sigaction};
use nix::sys::time::TimeValLike;
use nix::time::{ClockId, clock_gettime};

use super::Sys;
use super::poll::Wake;

/// Something shared that a signal handler may reach.
pub(crate) struct SignalCell<T>(AtomicPtr<T>);

impl<T> SignalCell<T> {
    pub(crate) const fn empty() -> Self {
        Self(AtomicPtr::new(std::ptr::null_mut()))
    }

    /// Replaces what is shared. What was there before must not be in use: it was never set, or no handler that uses
    /// it can run any more.
    pub(crate) fn set(&self, shared: Option<Arc<T>>) {
        let new = shared.map_or(std::ptr::null_mut(), |shared| Arc::into_raw(shared).cast_mut());
        let old = self.0.swap(new, Ordering::SeqCst);
        if !old.is_null() {
            // SAFETY: made by Arc::into_raw above, and taken out exactly once by the swap.
            drop(unsafe { Arc::from_raw(old) });
        }
    }

    /// Async-signal-safe.
    pub(crate) fn with(&self, use_it: impl FnOnce(&T)) {
        // SAFETY: the pointer is null or comes from an Arc that `set` keeps alive while it is here.
        if let Some(shared) = unsafe { self.0.load(Ordering::SeqCst).as_ref() } {
            use_it(shared);
        }
    }
}

static WAKE: SignalCell<Wake> = SignalCell::empty();
static COUNT: AtomicU32 = AtomicU32::new(0);
/// When the last one that counted came.
static LAST: AtomicU64 = AtomicU64::new(0);
/// Signals this close together count as one: timeout(1) signals its child and then the group, and a program that started us passes on what
/// the terminal has sent us as well.
const ONE_MS: u64 = 100;

extern "C" fn on_signal(_: libc::c_int) {
    let errno = nix::errno::Errno::last();
    // clock_gettime(2) may be called in a handler (signal-safety(7)).
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |now| now.num_milliseconds() as u64);
    if COUNT.load(Ordering::SeqCst) == 0 || now.saturating_sub(LAST.load(Ordering::SeqCst)) >= ONE_MS {
        LAST.store(now, Ordering::SeqCst);
        COUNT.fetch_add(1, Ordering::SeqCst);
    }
    WAKE.with(Wake::wake);
    errno.set();
}

/// While it lives, SIGTERM and SIGINT are counted and wake the primary, even if this thread had them blocked. Dropping it restores what
/// it found.
pub(crate) struct StopSignals {
    before: [(Signal, SigAction); 2],
    /// Which of the two were blocked.
    blocked: SigSet,
}

impl StopSignals {
    pub(crate) fn install(wake: &Arc<Wake>) -> Sys<Self> {
        COUNT.store(0, Ordering::SeqCst);
        WAKE.set(Some(Arc::clone(wake)));
        let ours = SigAction::new(SigHandler::Handler(on_signal), SaFlags::SA_RESTART, SigSet::empty());
        // SAFETY: the handler only uses atomics and write(2), which are async-signal-safe.
        let term = unsafe { sigaction(Signal::SIGTERM, &ours) }?;
        // SAFETY: as above.
        let int = unsafe { sigaction(Signal::SIGINT, &ours) }?;
        let mut both = SigSet::empty();
        both.add(Signal::SIGTERM);
        both.add(Signal::SIGINT);
        let mask = both.thread_swap_mask(SigmaskHow::SIG_UNBLOCK)?;
        let mut blocked = SigSet::empty();
        for signal in [Signal::SIGTERM, Signal::SIGINT] {
            if mask.contains(signal) {
                blocked.add(signal);
            }
        }
        Ok(Self { before: [(Signal::SIGTERM, term), (Signal::SIGINT, int)], blocked })
    }

    /// Which of the two the program had blocked.
    pub(crate) fn blocked_before(&self) -> SigSet {
        self.blocked
    }

    /// How many of them have come since `install`.
    pub(crate) fn count() -> u32 {
        COUNT.load(Ordering::SeqCst)
    }
}

impl Drop for StopSignals {
    fn drop(&mut self) {
        let _ = self.blocked.thread_block();
        for (signal, action) in &self.before {
            // SAFETY: puts back an action that the kernel itself reported.
            let _ = unsafe { sigaction(*signal, action) };
        }
        WAKE.set(None);
    }
}

/// While it lives, SIGTERM, SIGINT and SIGHUP stay blocked: across a fork, until the child has restored their actions.
pub(crate) struct StopSignalsBlocked(SigSet);

impl StopSignalsBlocked {
    pub(crate) fn new() -> Sys<Self> {
        let mut stop = SigSet::empty();
        stop.add(Signal::SIGTERM);
        stop.add(Signal::SIGINT);
        stop.add(Signal::SIGHUP);
        stop.thread_swap_mask(SigmaskHow::SIG_BLOCK).map(Self)
    }
}

impl StopSignalsBlocked {
    /// These stay blocked afterwards.
    pub(crate) fn keep(&mut self, blocked: SigSet) {
        self.0.extend(&blocked);
    }

    /// SIGTERM, SIGINT and SIGHUP are not blocked afterwards if `worker_signals` holds them.
    pub(crate) fn release(&mut self, held: &[i32]) {
        for signal in held.iter().filter_map(|signal| Signal::try_from(*signal).ok()) {
            self.0.remove(signal);
        }
    }
}

impl Drop for StopSignalsBlocked {
    fn drop(&mut self) {
        let _ = self.0.thread_set_mask();
    }
}
