//! Lives in which the primary has few descriptors: shares are refused, but whoever dies is replaced.

use std::collections::BTreeSet;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};

use super::PLACES;
use super::life::Life;
use crate::sys::descriptor::LimitedDescriptors;
use crate::sys::{descriptor, socket};

/// As many as it may have.
const MOST: u64 = 128;
/// As many of them have the program itself.
pub(super) const FILES: Range<usize> = 10..50;
/// At so many places more each worker listens that listens at one.
const MORE: usize = 3;

pub(super) struct Limit {
    _files: Vec<OwnedFd>,
}

impl Limit {
    /// Beside so many of the program's own.
    pub(super) fn beside(files: usize) -> Self {
        let (one, _) = socket::pipe().unwrap();
        Self { _files: (0..files).map(|_| descriptor::duplicate(one.as_fd()).unwrap()).collect() }
    }

    /// While the primary runs. Clients, workers and the test are processes of their own.
    pub(super) fn holds(&self) -> LimitedDescriptors {
        LimitedDescriptors::to(MOST)
    }

    pub(super) fn ask_for_more(&self, asked: &[(usize, usize, bool)]) -> Vec<(usize, usize, bool)> {
        // Nobody asks twice at once: which of them would be refused?
        let mut seen = BTreeSet::new();
        let all = asked.iter().flat_map(|(who, place, listens)| {
            let more = (0..MORE).map(move |more| PLACES.len() + place % PLACES.len() * MORE + more);
            std::iter::once(*place).chain(more).map(|place| (*who, place, *listens))
        });
        all.filter(|(who, place, _)| seen.insert((*who, super::key(*place)))).collect()
    }
}

impl Life {
    /// So many places there are.
    pub(super) fn places(&self) -> usize {
        if self.limit.is_some() { PLACES.len() * (1 + MORE) } else { PLACES.len() }
    }

    /// What nobody serves the primary gives up where it is in want of descriptors.
    pub(super) fn may_be_given_up(&self) -> BTreeSet<String> {
        let nobody_serves = |key: &&String| self.limit.is_some() && self.model.members(key).next().is_none();
        self.model.open.keys().filter(nobody_serves).cloned().collect()
    }

    /// The primary has refused some shares, and perhaps given up what nobody had served.
    pub(super) fn in_want(&mut self, refused: &BTreeSet<(u32, String)>, unattended: &BTreeSet<String>) {
        for (id, key) in refused {
            self.model.workers.entry(*id).or_default().shares.remove(key);
        }
        let is_open = self.primary.open_keys();
        for key in unattended.iter().chain(refused.iter().map(|(_, key)| key)) {
            let is_served = self.model.members(key).next().is_some();
            if !is_served && !is_open.contains(key) {
                self.model.open.remove(key);
            } else if is_served && unattended.contains(key) {
                // Whoever waited for a successor may have been sent away before that came.
                self.model.open.insert(key.clone(), None);
            }
        }
    }
}
