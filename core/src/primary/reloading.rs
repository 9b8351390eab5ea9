//! Waiting for the end of a reload.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::time::Duration;

use crate::fleet::{Generation, Outcome};
use crate::sys::lock;

/// How a reload has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reloaded {
    /// In short.
    pub outcome: Outcome,
    /// How many slots had a worker of it by then.
    pub replaced: usize,
    /// Why it has ended otherwise than well; one sentence, or empty.
    pub reason: String,
}

#[derive(Debug, Default)]
struct Ending {
    reloaded: Mutex<Option<Reloaded>>,
    told: Condvar,
}

/// A reload that was begun.
#[derive(Debug, Clone)]
pub struct Reloading {
    generation: Generation,
    ending: Arc<Ending>,
}

impl Reloading {
    /// That of its workers.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// How it has ended, if it has.
    pub fn outcome(&self) -> Option<Reloaded> {
        lock(&self.ending.reloaded).clone()
    }

    /// Waits for its end, while another thread runs the primary. `None` for the timeout: as long as it takes. `None`: it had not ended by
    /// then.
    pub fn wait(&self, timeout: Option<Duration>) -> Option<Reloaded> {
        let runs = |reloaded: &mut Option<Reloaded>| reloaded.is_none();
        let reloaded = lock(&self.ending.reloaded);
        let told = &self.ending.told;
        match timeout {
            None => told.wait_while(reloaded, runs).unwrap_or_else(PoisonError::into_inner).clone(),
            Some(timeout) => {
                told.wait_timeout_while(reloaded, timeout, runs).unwrap_or_else(PoisonError::into_inner).0.clone()
            }
        }
    }
}

/// Those that run, and who waits for them.
#[derive(Default)]
pub(super) struct Reloadings(BTreeMap<Generation, Weak<Ending>>);

impl Reloadings {
    pub(super) fn begin(&mut self, generation: Generation) -> Reloading {
        self.0.retain(|_, ending| ending.strong_count() > 0);
        let ending = Arc::default();
        self.0.insert(generation, Arc::downgrade(&ending));
        Reloading { generation, ending }
    }

    pub(super) fn end(&mut self, generation: Generation, reloaded: impl FnOnce() -> Reloaded) {
        if let Some(ending) = self.0.remove(&generation).and_then(|ending| ending.upgrade()) {
            *lock(&ending.reloaded) = Some(reloaded());
            ending.told.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_told_to_all_who_wait_and_to_those_who_ask_later() {
        let mut reloadings = Reloadings::default();
        let (one, other) = (reloadings.begin(2), reloadings.begin(3));
        assert_eq!((one.generation(), one.outcome(), one.wait(Some(Duration::ZERO))), (2, None, None));
        let reloaded = Reloaded { outcome: Outcome::Done, replaced: 4, reason: String::new() };
        std::thread::scope(|scope| {
            let waiting = [one.clone(), one.clone()].map(|one| scope.spawn(move || one.wait(None)));
            reloadings.end(2, || reloaded.clone());
            for waiting in waiting {
                assert_eq!(waiting.join().unwrap(), Some(reloaded.clone()));
            }
        });
        assert_eq!((one.outcome(), other.outcome()), (Some(reloaded), None));
        drop(other);
        reloadings.begin(4);
        assert_eq!(reloadings.0.len(), 1, "nobody waits for the one before");
        reloadings.end(9, || unreachable!());
    }
}
