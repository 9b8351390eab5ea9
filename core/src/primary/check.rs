//! Whether the primary's books agree with each other; for the fuzzer and the tests.

use super::Primary;

impl Primary {
    /// Panics when they do not. To be called between turns.
    pub(crate) fn check_books(&self) {
        self.registry.check();
        self.handles.check();
        for entry in self.registry.ids().iter().filter_map(|id| self.registry.get(*id)) {
            for (listener, handle) in &entry.listeners {
                assert!(self.handles.knows(*listener, *handle), "listener {listener} leads elsewhere");
                // Of an address that was given up the listener stays until its worker closes it.
                if let Some(handle) = self.handles.get(*handle) {
                    let member = handle.member(*listener).expect("a listener is a member");
                    assert_eq!((member.worker, member.slot), (entry.id, entry.slot));
                }
                assert!(entry.channel.is_some() || entry.relayed.contains(listener), "it cannot close {listener}");
            }
            assert!(entry.relayed.iter().all(|listener| entry.listeners.contains_key(listener)));
        }
        for handle in self.handles.iter() {
            handle.check(|listener, worker| {
                self.registry.get(worker).is_some_and(|entry| entry.listeners.get(&listener) == Some(&handle.id))
            });
        }
        let listeners: usize =
            self.registry.ids().iter().filter_map(|id| self.registry.get(*id)).map(|entry| entry.listeners.len()).sum();
        assert_eq!(self.handles.count_of_listeners(), listeners, "a listener that nobody has");
    }

    /// Whether a worker is still spoken with, and has this listener.
    pub(crate) fn speaks_with(&self, worker: u32) -> bool {
        self.registry.get(worker).is_some_and(|entry| entry.channel.is_some())
    }

    /// The listeners of a worker whose address is open, with the key of that.
    pub(crate) fn shares_of(&self, worker: u32) -> Vec<(u32, String)> {
        let Some(entry) = self.registry.get(worker) else { return Vec::new() };
        let open = |(listener, handle): (&u32, &u32)| {
            let handle = self.handles.get(*handle).filter(|handle| !handle.is_closing())?;
            Some((*listener, handle.key.clone()))
        };
        entry.listeners.iter().filter_map(open).collect()
    }

    /// The keys of the open addresses.
    #[cfg(test)]
    pub(crate) fn open_keys(&self) -> Vec<String> {
        self.handles.iter().filter(|handle| !handle.is_closing()).map(|handle| handle.key.clone()).collect()
    }

    /// When a worker is told to leave that is to serve somebody first.
    #[cfg(test)]
    pub(crate) fn told_at(&self, worker: u32) -> Option<std::time::Instant> {
        self.farewells.get(&worker).copied()
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
        let workers = self.registry.ids();
        let kept: usize =
            workers.iter().filter_map(|id| self.registry.get(*id)).map(|entry| entry.grants.kept_fds()).sum();
        OWN + WORKER * workers.len() + kept + self.handles.iter().map(|handle| handle.descriptors_most()).sum::<usize>()
    }
}
