//! The engine's rules for restarts, for the command line, whose workers Node starts.

use std::time::{Duration, Instant};

use cluster_core::{Life, Pace, Settings};
use napi_derive::napi;

/// A worker that lived this long, in milliseconds, did not fail at its start.
#[napi]
pub const HEALTHY: u32 = cluster_core::HEALTHY.as_millis() as u32;

/// The delays between the restarts of one slot, by the engine's rule.
#[napi]
#[derive(Default)]
pub struct Backoff {
    inner: cluster_core::Backoff,
}

#[napi]
impl Backoff {
    /// No restart so far.
    #[napi(constructor)]
    pub fn new() -> Self {
        Self::default()
    }

    /// The delay before the next start, in milliseconds. `lived`: how long the last worker lived, in milliseconds. `listened`,
    /// `served`: whether it listened and took a connection; a worker that served is replaced at once. `jitter` in 0..1 lengthens
    /// the delay by up to a quarter, so that workers that fail together come back apart.
    #[napi]
    pub fn next(&mut self, lived: f64, listened: bool, served: bool, jitter: f64) -> f64 {
        let (least, most) = Settings::default().restart_delay;
        let lasted = Duration::try_from_secs_f64(lived / 1000.0).unwrap_or_default();
        self.inner.next(Life { lasted, listened, served }, least, most, jitter).as_secs_f64() * 1000.0
    }
}

/// Which slots wait for a replacement, and the bound on the starts of all of them.
#[napi]
#[derive(Default)]
pub struct Restarts {
    inner: cluster_core::Restarts,
}

#[napi]
impl Restarts {
    /// Nobody waits.
    #[napi(constructor)]
    pub fn new() -> Self {
        Self::default()
    }

    /// A slot's replacement is due in so many milliseconds.
    #[napi]
    pub fn plan(&mut self, slot: u32, delay: f64) {
        self.inner.plan(slot, Instant::now(), Duration::try_from_secs_f64(delay / 1000.0).unwrap_or_default());
    }

    /// The slot gets no replacement.
    #[napi]
    pub fn cancel(&mut self, slot: u32) {
        self.inner.cancel(slot);
    }

    /// Takes the slot to be started now. `slots`: how many there are; `deserted`: nobody serves.
    #[napi]
    pub fn take(&mut self, slots: u32, deserted: bool) -> Option<u32> {
        self.inner.take(Instant::now(), pace(slots, deserted))
    }

    /// In how many milliseconds the next is to be started.
    #[napi]
    pub fn next_in(&self, slots: u32, deserted: bool) -> Option<f64> {
        let at = self.inner.next_at(pace(slots, deserted))?;
        Some(at.saturating_duration_since(Instant::now()).as_secs_f64() * 1000.0)
    }
}

fn pace(slots: u32, deserted: bool) -> Pace {
    let deserted = if deserted { Pace::deserted(Settings::default().restart_delay.0) } else { None };
    Pace { slots: slots as usize, deserted }
}

/// Reaps a dead child that nobody else waits for: an orphan that PID 1 inherited. True if it existed.
#[napi]
pub fn reap_orphan(pid: i32) -> bool {
    use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
    let asked = (pid > 0).then(|| waitpid(nix::unistd::Pid::from_raw(pid), Some(WaitPidFlag::WNOHANG)));
    asked.is_some_and(|outcome| outcome.is_ok_and(|status| !matches!(status, WaitStatus::StillAlive)))
}
