//! The handles a primary has, by id and by key, and which handle a listener belongs to.

use std::collections::{BTreeMap, HashMap};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use super::ladder::Ladder;
use super::permits::Permit;
use crate::address::Address;
use crate::bind::{self, ListenFlags, Shape};
use crate::error::{Error, Result};
use crate::handle::{Audited, Choice, Datagrams, Handle, Look, Mechanism, Passed, Shared, Watched};
use crate::policy::Policy;
use crate::settings;
use crate::sys::bpf::lock_filter;
use crate::sys::poll::Poll;
use crate::sys::{process, socket};

/// For how many addresses it is remembered how much was lost.
const LOST_MAX: usize = 1024;

#[derive(Default)]
pub(crate) struct Handles {
    by_id: BTreeMap<u32, Handle>,
    by_key: HashMap<String, u32>,
    by_listener: HashMap<u32, u32>,
    /// Connections dropped when an address was given up, by key.
    lost: BTreeMap<String, u64>,
    last_handle: u32,
    last_listener: u32,
    /// Handles that have something to pump.
    dirty: Vec<u32>,
    pub(crate) ladder: Ladder,
}

/// What makes two listens the same: the address as it was asked for, and an index only where the port is 0
/// (Node's own rule since version 22). Not the flags and not the backlog: the first asker's count.
pub(crate) fn key(address: &Address, index: u32) -> String {
    if address.is_port_zero() { format!("{address}#{index}") } else { address.to_string() }
}

impl Handles {
    /// The handle of a key, opened if need be, and whether it was. An error is the asker's alone: nothing is kept of it.
    pub(crate) fn open(
        &mut self,
        Permit { address, place }: Permit,
        index: u32,
        shape: Shape,
        flags: ListenFlags,
        (policy, mechanism): (Policy, settings::Mechanism),
        poll: &Poll,
    ) -> Result<(u32, bool)> {
        let address = &address;
        let key = key(address, index);
        if let Some(id) = self.by_key.get(&key) {
            return Ok((*id, false));
        }
        let mut beside = false;
        for handle in self.by_id.values_mut().filter(|handle| handle.is_closing() && handle.key == key) {
            handle.make_way();
            beside |= matches!(address, Address::Inet { datagram: false, .. });
        }
        let bound = bind::open(address, place, &shape, if beside { flags | ListenFlags::REUSEPORT } else { flags })?;
        if beside {
            // Nobody else comes beside it.
            socket::clear_reuse_port(bound.socket.as_fd())
                .map_err(|errno| Error::os("setsockopt SO_REUSEPORT", errno))?;
        }
        let seed = process::random() as u32;
        let ours = !matches!(address, Address::Inherited(_));
        // Beside a datagram socket of the program's own no other can be bound.
        let shared = policy == Policy::None || (bound.datagram && (mechanism == settings::Mechanism::Passed || !ours));
        if shared && ours {
            // No worker's filter decides what the others get. A socket of the program's own is left as it is.
            lock_filter(bound.socket.as_fd()).map_err(|errno| Error::os("setsockopt SO_LOCK_FILTER", errno))?;
        }
        let mechanism: Box<dyn Mechanism> = if shared {
            Box::new(Shared::new(bound.socket, bound.name, bound.datagram, shape, ours))
        } else if bound.datagram {
            let made = Datagrams::new(bound.socket, bound.name, shape);
            Box::new(made.map_err(|errno| Error::os(format_args!("setsockopt SO_REUSEPORT {address}"), errno))?)
        } else {
            let passed = Passed::new(bound.socket);
            // A load has to be known at the moment of the choice, and there the kernel does not know it.
            let choice = match (address, policy) {
                (Address::Inet { .. }, Policy::RoundRobin | Policy::SourceHash) => Some(Choice::of(policy)),
                _ => None,
            };
            match (mechanism, choice) {
                (settings::Mechanism::Passed, _) | (_, None) => Box::new(passed),
                (wanted, Some(choice)) => self.ladder.climb(passed, &key, bound.name, shape, (choice, seed), wanted)?,
            }
        };
        let id = loop {
            self.last_handle = self.last_handle.wrapping_add(1).max(1);
            if !self.by_id.contains_key(&self.last_handle) {
                break self.last_handle;
            }
        };
        let text = address.to_string();
        let mut handle = Handle::new(id, key.clone(), text, bound.name, bound.datagram, mechanism, bound.file);
        handle.choose_by(policy, seed);
        handle.ours = ours;
        if let Err(errno) = handle.register(poll) {
            drop(handle.close(poll));
            return Err(Error::os("watching a listening socket", errno));
        }
        self.by_key.insert(key, id);
        self.by_id.insert(id, handle);
        Ok((id, true))
    }

    /// An address is open.
    pub(crate) fn has(&self, address: &Address, index: u32) -> bool {
        self.by_key.contains_key(&key(address, index))
    }

    /// How many addresses are open.
    pub(crate) fn count(&self) -> usize {
        self.by_id.len()
    }

    pub(crate) fn new_listener(&mut self, handle: u32) -> u32 {
        // Not even a worker that listens and closes for days comes upon the number of another's.
        loop {
            self.last_listener = self.last_listener.wrapping_add(1).max(1);
            if !self.by_listener.contains_key(&self.last_listener) {
                self.by_listener.insert(self.last_listener, handle);
                return self.last_listener;
            }
        }
    }

    pub(crate) fn forget_listener(&mut self, listener: u32) {
        self.by_listener.remove(&listener);
    }

    pub(crate) fn of_listener(&mut self, listener: u32) -> Option<&mut Handle> {
        let id = self.by_listener.get(&listener)?;
        self.by_id.get_mut(id)
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

    /// Nobody new comes to an address; whoever listens there from now on opens it anew.
    pub(crate) fn shut_door(&mut self, id: u32, poll: &Poll, now: Instant) {
        if let Some(handle) = self.by_id.get_mut(&id) {
            handle.shut_door(poll, now);
            if self.by_key.get(&handle.key) == Some(&id) {
                self.by_key.remove(&handle.key);
            }
        }
    }

    /// The same for all.
    pub(crate) fn shut_doors(&mut self, poll: &Poll, now: Instant) {
        for id in self.by_id.keys().copied().collect::<Vec<u32>>() {
            self.shut_door(id, poll, now);
        }
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Handle> {
        self.by_id.values_mut()
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

    /// Connections of an address that were accepted and had to be dropped.
    pub(crate) fn lost(&self, key: &str) -> u64 {
        self.lost.get(key).copied().unwrap_or(0)
    }

    pub(crate) fn close_unattended(&mut self, poll: &Poll) {
        let unattended: Vec<u32> =
            self.by_id.values().filter(|handle| handle.is_unattended()).map(|handle| handle.id).collect();
        for id in unattended {
            self.close(id, poll);
        }
    }

    /// Closes what nobody serves since a worker left.
    pub(crate) fn close_left_by(&mut self, worker: u32, poll: &Poll) {
        let left: Vec<u32> =
            self.by_id.values().filter(|handle| handle.was_left_last_by(worker)).map(|handle| handle.id).collect();
        for id in left {
            self.close(id, poll);
        }
    }

    pub(crate) fn close_all(&mut self, poll: &Poll) {
        for id in self.by_id.keys().copied().collect::<Vec<u32>>() {
            self.close(id, poll);
        }
    }

    /// Panics when the ways to a handle disagree; for the fuzzer and the tests.
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
    pub(crate) fn knows(&self, listener: u32, handle: u32) -> bool {
        self.by_listener.get(&listener) == Some(&handle)
    }

    /// As `check`.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn count_of_listeners(&self) -> usize {
        self.by_listener.len()
    }

    /// Notes that a handle may have something to move.
    pub(crate) fn mark(&mut self, id: u32) {
        if !self.dirty.contains(&id) {
            self.dirty.push(id);
        }
    }

    /// Notes that any handle may.
    pub(crate) fn mark_all(&mut self) {
        self.dirty = self.by_id.keys().copied().collect();
    }

    /// Gives the marked ones into an empty list.
    pub(crate) fn take_marked(&mut self, into: &mut Vec<u32>) {
        std::mem::swap(&mut self.dirty, into);
    }

    pub(crate) fn has_marked(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// One look of the watch at every handle; when another is needed.
    pub(crate) fn watch(&mut self, look: &Look) -> Option<Duration> {
        let mut all = Watched::default();
        for (id, handle) in &mut self.by_id {
            let watched = handle.watch(look);
            if watched.changed && !self.dirty.contains(id) {
                self.dirty.push(*id);
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
            if !audited.thieves.is_empty() && !self.dirty.contains(&handle.id) {
                self.dirty.push(handle.id);
            }
            found.push((handle.key.clone(), audited));
        }
        found
    }

    /// Moves connections in one handle.
    pub(crate) fn pump(&mut self, id: u32, poll: &Poll, now: Instant) -> Option<crate::handle::Pumped> {
        self.by_id.get_mut(&id).map(|handle| handle.pump(poll, now))
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
