#![allow(unsafe_code)] // sigaction(2) and what runs inside a signal handler.
//! SIGHUP, SIGTTIN and SIGTTOU as requests to a primary that asked for them: to reload, and to have one worker more or fewer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, sigaction};

use super::Sys;
use super::poll::Wake;
use super::signal::SignalCell;

static WAKE: SignalCell<Wake> = SignalCell::empty();
static RELOADS: AtomicU32 = AtomicU32::new(0);
static MORE: AtomicU32 = AtomicU32::new(0);
static FEWER: AtomicU32 = AtomicU32::new(0);

const OURS: [(Signal, &AtomicU32); 3] =
    [(Signal::SIGHUP, &RELOADS), (Signal::SIGTTIN, &MORE), (Signal::SIGTTOU, &FEWER)];

extern "C" fn on_signal(number: libc::c_int) {
    let errno = nix::errno::Errno::last();
    for (signal, count) in OURS {
        if signal as libc::c_int == number {
            count.fetch_add(1, Ordering::SeqCst);
        }
    }
    WAKE.with(Wake::wake);
    errno.set();
}

/// What signals have asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Asked {
    pub(crate) reload: bool,
    /// So many workers more, or fewer.
    pub(crate) more: i32,
}

/// While it lives, those of the three whose disposition was the default are counted and wake the primary, even if this thread had them
/// blocked. Dropping it restores what it found.
pub(crate) struct ReloadSignals {
    before: Vec<(Signal, SigAction)>,
    mask: Option<SigSet>,
}

impl ReloadSignals {
    pub(crate) fn install(wake: &Arc<Wake>) -> Sys<Self> {
        WAKE.set(Some(Arc::clone(wake)));
        let mut installed = Self { before: Vec::new(), mask: None };
        let ours = SigAction::new(SigHandler::Handler(on_signal), SaFlags::SA_RESTART, SigSet::empty());
        let mut unblocked = SigSet::empty();
        for (signal, count) in OURS {
            count.store(0, Ordering::SeqCst);
            // SAFETY: the handler only uses atomics and write(2), which are async-signal-safe.
            let before = unsafe { sigaction(signal, &ours) }?;
            if matches!(before.handler(), SigHandler::SigDfl) {
                installed.before.push((signal, before));
                unblocked.add(signal);
            } else {
                // SAFETY: puts back an action that the kernel itself reported.
                unsafe { sigaction(signal, &before) }?;
            }
        }
        installed.mask = Some(unblocked.thread_swap_mask(SigmaskHow::SIG_UNBLOCK)?);
        Ok(installed)
    }

    /// What they have asked for since the last time.
    pub(crate) fn take() -> Asked {
        let [reloads, more, fewer] = OURS.map(|(_, count)| count.swap(0, Ordering::SeqCst));
        Asked { reload: reloads > 0, more: more as i32 - fewer as i32 }
    }
}

impl Drop for ReloadSignals {
    fn drop(&mut self) {
        if let Some(mask) = self.mask {
            let mut blocked = SigSet::empty();
            self.before
                .iter()
                .filter(|(signal, _)| mask.contains(*signal))
                .for_each(|(signal, _)| blocked.add(*signal));
            let _ = blocked.thread_block();
        }
        for (signal, action) in &self.before {
            // SAFETY: puts back an action that the kernel itself reported.
            let _ = unsafe { sigaction(*signal, action) };
        }
        WAKE.set(None);
    }
}
