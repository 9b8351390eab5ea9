//! Whether the primary's books agree with each other; for the fuzzer and the tests.

use super::Primary;

impl Primary {
    /// Panics when they do not. To be called between turns.
    pub(crate) fn check_books(&self) {
        self.workers.check();
        self.addresses.check();
        for entry in self.workers.iter() {
            for (listener, handle) in &entry.listeners {
                assert!(self.addresses.knows(*listener, *handle), "listener {listener} leads elsewhere");
                // Of an address that was given up the listener stays until its worker closes it.
                if let Some(handle) = self.addresses.get(*handle) {
                    let member = handle.member(*listener).expect("a listener is a member");
                    assert_eq!((member.worker, member.slot), (entry.id, entry.slot));
                }
                assert!(entry.link.is_open() || entry.relayed.contains(listener), "it cannot close {listener}");
            }
            assert!(entry.relayed.iter().all(|listener| entry.listeners.contains_key(listener)));
        }
        for handle in self.addresses.iter() {
            handle.check(|listener, worker| {
                self.workers.get(worker).is_some_and(|entry| entry.listeners.get(&listener) == Some(&handle.id))
            });
        }
        let listeners: usize = self.workers.iter().map(|entry| entry.listeners.len()).sum();
        assert_eq!(self.addresses.count_of_listeners(), listeners, "a listener that nobody has");
    }

    /// Whether a worker is still spoken with, and has this listener.
    pub(crate) fn speaks_with(&self, worker: u32) -> bool {
        self.workers.get(worker).is_some_and(|entry| entry.link.is_open())
    }

    /// Some worker has sent what was not its turn yet.
    pub(crate) fn has_unread(&self) -> bool {
        self.workers.iter().any(|entry| entry.link.has_unread())
    }

    /// The watch looks: something waits, or may have come unseen.
    #[cfg(test)]
    pub(crate) fn is_watching(&self) -> bool {
        self.clock.is_watching()
    }

    /// The listeners of a worker whose address is open, with the key of that.
    pub(crate) fn shares_of(&self, worker: u32) -> Vec<(u32, String)> {
        let Some(entry) = self.workers.get(worker) else { return Vec::new() };
        let open = |(listener, handle): (&u32, &u32)| {
            let handle = self.addresses.get(*handle).filter(|handle| !handle.is_closing())?;
            Some((*listener, handle.key.clone()))
        };
        entry.listeners.iter().filter_map(open).collect()
    }

    /// The keys of the open addresses.
    #[cfg(test)]
    pub(crate) fn open_keys(&self) -> Vec<String> {
        self.addresses.iter().filter(|handle| !handle.is_closing()).map(|handle| handle.key.clone()).collect()
    }

    /// When a worker is told to leave that is to serve somebody first.
    #[cfg(test)]
    pub(crate) fn told_at(&self, worker: u32) -> Option<std::time::Instant> {
        self.workers.farewells().get(&worker).copied()
    }

    /// What is still due some time.
    #[cfg(test)]
    pub(crate) fn timers_left(&self) -> usize {
        self.clock.timers_left()
    }

    /// The most descriptors that the books account for: its own, each worker's, each address's.
    pub(crate) fn descriptors_most(&self) -> usize {
        /// Poll, wake, alarm, pidfd.
        const OWN: usize = 4;
        /// Channel, grants, lifeline, pidfd.
        const WORKER: usize = 4;
        let of_workers: usize = self
            .workers
            .iter()
            .map(|entry| WORKER + entry.link.kept_fds() + usize::from(entry.returns.is_some()))
            .sum();
        OWN + of_workers + self.addresses.iter().map(|handle| handle.descriptors_most()).sum::<usize>()
    }
}
