//! Which worker has done enough and is to be replaced. Pure.

use std::time::Duration;

/// After how much a worker is replaced by another that is made in the same way. `None`: that is no reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecycleOptions {
    /// Memory that it has for itself, in bytes (RssAnon of proc_pid_status(5)).
    pub memory: Option<u64>,
    /// Connections that it has taken.
    pub connections: Option<u64>,
    /// Requests that its program has counted.
    pub requests: Option<u64>,
    /// Time since it was started.
    pub age: Option<Duration>,
    /// Each worker has a limit of its own, up to so many percent higher, so that those that were started together are not replaced
    /// together.
    pub jitter_percent: u32,
    /// How many are replaced at a time.
    pub at_a_time: usize,
}

impl Default for RecycleOptions {
    fn default() -> Self {
        Self { memory: None, connections: None, requests: None, age: None, jitter_percent: 20, at_a_time: 1 }
    }
}

/// What a worker has done by now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Done {
    /// `None`: not known.
    pub(crate) memory: Option<u64>,
    pub(crate) connections: u64,
    pub(crate) requests: u64,
    pub(crate) age: Duration,
}

impl RecycleOptions {
    /// Anything is a reason.
    pub(crate) fn any(&self) -> bool {
        self.memory.is_some() || self.connections.is_some() || self.requests.is_some() || self.age.is_some()
    }

    /// Whether a worker has done enough. `share`: of the jitter that is its own, from 0 to 1.
    pub(crate) fn is_enough(&self, done: &Done, share: f64) -> bool {
        let stretch = 1.0 + f64::from(self.jitter_percent) / 100.0 * share.clamp(0.0, 1.0);
        let reached = |limit: Option<u64>, done: u64| limit.is_some_and(|limit| done as f64 >= limit as f64 * stretch);
        reached(self.memory, done.memory.unwrap_or(0))
            || reached(self.connections, done.connections)
            || reached(self.requests, done.requests)
            || self.age.is_some_and(|age| done.age.as_secs_f64() >= age.as_secs_f64() * stretch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_counts_by_itself_and_is_stretched_by_the_workers_own_share() {
        let options = RecycleOptions { requests: Some(100), jitter_percent: 50, ..RecycleOptions::default() };
        let done = |requests| Done { requests, ..Done::default() };
        assert!(!options.is_enough(&done(99), 0.0) && options.is_enough(&done(100), 0.0));
        assert!(!options.is_enough(&done(149), 1.0) && options.is_enough(&done(150), 1.0));
        assert!(!options.is_enough(&Done { connections: 1000, memory: Some(1 << 40), ..done(0) }, 0.0));
        let options = RecycleOptions { age: Some(Duration::from_secs(10)), ..RecycleOptions::default() };
        assert!(options.is_enough(&Done { age: Duration::from_secs(12), ..done(0) }, 1.0));
        assert!(!options.is_enough(&Done { age: Duration::from_secs(11), ..done(0) }, 1.0));
        let options = RecycleOptions { memory: Some(1), connections: Some(7), ..RecycleOptions::default() };
        assert!(!options.is_enough(&done(9), 0.0), "what is not known is not enough");
        assert!(options.is_enough(&Done { memory: Some(1), ..done(0) }, 0.0));
        assert!(options.is_enough(&Done { connections: 7, ..done(0) }, 0.0));
        assert!(options.any() && !RecycleOptions::default().any());
        assert!(!RecycleOptions::default().is_enough(&Done { age: Duration::MAX, ..done(u64::MAX) }, 0.0));
    }
}
