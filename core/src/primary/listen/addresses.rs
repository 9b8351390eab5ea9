//! The addresses that are open, by id and by key, and which of them a listener belongs to.

use std::cell::OnceCell;
use std::collections::{BTreeMap, HashMap};
use std::num::NonZero;
use std::time::{Duration, Instant};

use super::ladder::Ladder;
use super::rules::Permits;
use crate::address::Address;
use crate::error::Result;
use crate::handle::{Audited, Handle};
use crate::mechanism::{Choice, Look, Watched};
use crate::primary::talk::Asked;
use crate::settings::{Mechanism, Settings};
use crate::sys::poll::Poll;

/// For how many addresses it is remembered how much was lost.
const LOST_MAX: usize = 1024;

/// How long an address is kept that nobody serves.
#[derive(Clone, Copy)]
pub(super) struct Kept {
    pub(super) at: Instant,
    /// The last who served there was not told to leave.
    pub(super) crashed: bool,
}

/// A worker, what it asked for, and until when that may wait.
pub(crate) type Waiting = (u32, Asked, Instant);

#[derive(Default)]
pub(crate) struct Addresses {
    pub(super) by_id: BTreeMap<u32, Handle>,
    pub(super) by_key: HashMap<String, u32>,
    pub(super) listeners: Listeners,
    pub(super) last_id: u32,
    /// Connections dropped when an address was given up, by key.
    pub(super) lost: BTreeMap<String, u64>,
    /// Those that have something to pump.
    pub(super) marked: Vec<u32>,
    pub(super) ladder: Ladder,
    cpus: OnceCell<usize>,
    /// What `Settings::listen_allow` says; `None` as there.
    pub(super) permits: Option<Permits>,
    pub(super) postponed: Vec<Waiting>,
    pub(super) kept: BTreeMap<u32, Kept>,
    /// Some worker has had a share of an address.
    pub(super) ever_joined: bool,
}

/// Which address each listener belongs to.
#[derive(Default)]
pub(crate) struct Listeners {
    addresses: HashMap<u32, u32>,
    last: u32,
}

impl Listeners {
    pub(super) fn add(&mut self, address: u32) -> u32 {
        // Not even a worker that listens and closes for days comes upon the number of another's.
        loop {
            self.last = self.last.wrapping_add(1).max(1);
            if !self.addresses.contains_key(&self.last) {
                self.addresses.insert(self.last, address);
                return self.last;
            }
        }
    }

    pub(super) fn forget(&mut self, listener: u32) {
        self.addresses.remove(&listener);
    }
}

/// What makes two listens the same: the address as it was asked for, and an index only where the port is 0
/// (Node's own rule since version 22). Not the flags and not the backlog: the first asker's count.
pub(crate) fn key(address: &Address, index: u32) -> String {
    if address.is_port_zero() { format!("{address}#{index}") } else { address.to_string() }
}

impl Addresses {
    pub(crate) fn new(permits: Option<Permits>) -> Self {
        Self { permits, ..Self::default() }
    }

    /// How many workers can run at the same time, as far as this process may use the machine.
    pub(super) fn cpus(&self) -> usize {
        *self.cpus.get_or_init(|| std::thread::available_parallelism().map_or(1, NonZero::get))
    }

    /// Makes ready what new settings need for the first addresses; `permits`: what workers may listen on from here on, if that changes.
    pub(crate) fn configure(&mut self, settings: &Settings, permits: Option<Option<Permits>>) -> Result<()> {
        if settings.mechanism == Mechanism::Kernel {
            self.ladder.prepare(Choice::of(settings.policy))?;
        } else {
            self.ladder.rest();
        }
        if let Some(permits) = permits {
            self.permits = permits;
        }
        Ok(())
    }

    /// The cluster has stopped: nothing is kept for whoever may come.
    pub(crate) fn finish(&mut self, poll: &Poll) {
        self.close_unattended(None, poll);
        self.ladder.rest();
        self.ever_joined = false;
    }

    pub(crate) fn get(&self, id: u32) -> Option<&Handle> {
        self.by_id.get(&id)
    }

    pub(crate) fn get_mut(&mut self, id: u32) -> Option<&mut Handle> {
        self.by_id.get_mut(&id)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Handle> {
        self.by_id.values()
    }

    pub(super) fn of_listener(&self, listener: u32) -> Option<u32> {
        self.listeners.addresses.get(&listener).copied()
    }

    /// An address to which something happens, so that it may have something to move.
    pub(crate) fn touch(&mut self, id: u32) -> Option<&mut Handle> {
        self.mark(id);
        let handle = self.by_id.get_mut(&id)?;
        handle.attend();
        Some(handle)
    }

    /// The same by one of its listeners.
    pub(crate) fn touch_of(&mut self, listener: u32) -> Option<&mut Handle> {
        self.touch(self.of_listener(listener)?)
    }

    /// The address of a listener tells clients apart.
    pub(crate) fn is_by_client(&self, listener: u32) -> bool {
        self.of_listener(listener).and_then(|id| self.get(id)).is_some_and(Handle::is_by_client)
    }

    /// Something listens or has listened.
    pub(crate) fn ever_joined(&self) -> bool {
        self.ever_joined
    }

    /// Everybody has left some address, or is leaving it.
    pub(crate) fn has_deserted(&self) -> bool {
        self.by_id.values().any(Handle::is_given_up)
    }

    /// Connections of an address that were accepted and had to be dropped.
    pub(crate) fn lost(&self, key: &str) -> u64 {
        self.lost.get(key).copied().unwrap_or(0)
    }

    pub(crate) fn close(&mut self, id: u32, poll: &Poll) {
        if let Some(handle) = self.by_id.remove(&id) {
            if self.by_key.get(&handle.key) == Some(&id) {
                self.by_key.remove(&handle.key);
            }
            let lost = handle.unserved();
            // A worker may open any number of addresses, one after another.
            if lost > 0 && (self.lost.len() < LOST_MAX || self.lost.contains_key(&handle.key)) {
                *self.lost.entry(handle.key.clone()).or_default() += lost;
            }
            if let Some(selector) = handle.close(poll) {
                self.ladder.keep(selector);
            }
        }
    }

    pub(super) fn close_those(&mut self, which: impl Fn(&Handle) -> bool, poll: &Poll) {
        let ids: Vec<u32> = self.by_id.values().filter(|handle| which(handle)).map(|handle| handle.id).collect();
        ids.into_iter().for_each(|id| self.close(id, poll));
    }

    /// Closes what nobody serves, but for one.
    pub(crate) fn close_unattended(&mut self, but: Option<u32>, poll: &Poll) {
        self.close_those(|handle| handle.is_unattended() && Some(handle.id) != but, poll);
    }

    /// Closes what nobody serves but workers that leave and were made before this one, or nobody since one of those has left as it was
    /// told to.
    pub(crate) fn close_given_up_before(&mut self, worker: u32, poll: &Poll) {
        let given_up = |handle: &&Handle| {
            !handle.is_closing() && handle.is_given_up_before(worker) && !self.awaits_successor(handle.id)
        };
        let ids: Vec<u32> = self.by_id.values().filter(given_up).map(|handle| handle.id).collect();
        ids.into_iter().for_each(|id| self.close(id, poll));
    }

    /// Closes what nobody serves since a worker left.
    pub(crate) fn close_left_by(&mut self, worker: u32, poll: &Poll) {
        self.close_those(|handle| handle.was_left_last_by(worker), poll);
    }

    pub(crate) fn close_all(&mut self, poll: &Poll) {
        self.close_those(|_| true, poll);
    }

    /// Notes that an address may have something to move.
    pub(crate) fn mark(&mut self, id: u32) {
        if !self.marked.contains(&id) {
            self.marked.push(id);
        }
    }

    /// Notes that any may.
    pub(crate) fn mark_all(&mut self) {
        self.marked = self.by_id.keys().copied().collect();
    }

    /// Gives the marked ones into an empty list.
    pub(crate) fn take_marked(&mut self, into: &mut Vec<u32>) {
        std::mem::swap(&mut self.marked, into);
    }

    pub(crate) fn has_marked(&self) -> bool {
        !self.marked.is_empty()
    }

    /// One look of the watch at every address; when another is needed.
    pub(crate) fn watch(&mut self, look: &Look, now: Instant) -> Option<Duration> {
        let mut all = Watched::default();
        for (id, handle) in &mut self.by_id {
            let watched = handle.watch(look, now);
            if watched.changed && !self.marked.contains(id) {
                self.marked.push(*id);
            }
            all = all.and(watched);
        }
        all.again
    }

    /// Looks at every socket that a worker could have spoiled for others, by address; none where there is no such.
    pub(crate) fn audit(&mut self, poll: &Poll, now: Instant) -> Vec<(String, Audited)> {
        let mut found = Vec::new();
        for handle in self.by_id.values_mut().filter(|handle| handle.wants_audit()) {
            let audited = handle.audit(poll, now);
            // What it is to be told of may have changed.
            if !self.marked.contains(&handle.id) {
                self.marked.push(handle.id);
            }
            found.push((handle.key.clone(), audited));
        }
        found
    }

    /// Panics when the ways to an address disagree; for the fuzzer and the tests.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn check(&self) {
        let open = self.by_id.iter().filter(|(_, handle)| !handle.is_closing());
        assert_eq!(self.by_key.len(), open.clone().count());
        for (id, handle) in open {
            assert_eq!((handle.id, self.by_key.get(&handle.key)), (*id, Some(id)));
        }
    }

    /// As `check`.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn knows(&self, listener: u32, address: u32) -> bool {
        self.of_listener(listener) == Some(address)
    }

    /// As `check`.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn count_of_listeners(&self) -> usize {
        self.listeners.addresses.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn address() -> impl Strategy<Value = String> {
        prop_oneof![
            (any::<std::net::SocketAddr>(), any::<bool>()).prop_map(|(mut at, zero)| {
                if zero {
                    at.set_port(0);
                }
                at.to_string()
            }),
            "[a-c#]{1,3}:[01]",
            "udp:[a-c]:[01]",
            "unix:@?/?[a-c#01:]{1,4}",
            (0..3_i32).prop_map(|number| format!("fd:{number}")),
        ]
    }

    proptest! {
        #[test]
        fn two_listens_have_one_key_when_they_mean_one_address_and_index(
            first in address(), second in address(), indices in (0..3_u32, 0..3_u32)
        ) {
            if let (Ok(first), Ok(second)) = (Address::parse(&first), Address::parse(&second)) {
                let same_index = indices.0 == indices.1 || !first.is_port_zero();
                prop_assert_eq!(key(&first, indices.0) == key(&second, indices.1), first == second && same_index);
                prop_assert_eq!(key(&first, indices.0) == key(&first, indices.1), same_index);
            }
        }
    }
}
