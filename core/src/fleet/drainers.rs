//! Those who were told to leave and have not yet.

use std::collections::VecDeque;

#[derive(Debug, Default)]
pub(super) struct Drainers {
    /// The oldest first.
    leaving: VecDeque<u32>,
    /// Told again.
    hastened: Vec<u32>,
}

impl Drainers {
    pub(super) fn add(&mut self, worker: u32) {
        self.leaving.push_back(worker);
    }

    pub(super) fn ended(&mut self, worker: u32) {
        self.leaving.retain(|other| *other != worker);
        self.hastened.retain(|other| *other != worker);
    }

    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn workers(&self) -> impl Iterator<Item = u32> {
        self.leaving.iter().chain(&self.hastened).copied()
    }

    /// One that takes its time where there are more than `most`.
    pub(super) fn take_over_due(&mut self, most: usize) -> Option<u32> {
        let worker = if self.leaving.len() > most { self.leaving.pop_front()? } else { return None };
        self.hastened.push(worker);
        Some(worker)
    }

    #[cfg(test)]
    pub(super) fn patient(&self) -> usize {
        self.leaving.len()
    }
}
