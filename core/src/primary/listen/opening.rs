//! Opening an address: its socket, and the mechanism by which its connections reach the workers.

use std::os::fd::AsFd;

use super::addresses::Addresses;
use super::joining::Request;
use super::permits::Permit;
use crate::address::Address;
use crate::bind::{self, ListenFlags};
use crate::error::{Context, Error, Result};
use crate::handle::Handle;
use crate::mechanism::{Choice, Datagrams, Passed, Rotation, Route, Shared};
use crate::policy::Policy;
use crate::primary::ground::Ground;
use crate::primary::workers::Entry;
use crate::settings::Mechanism;
use crate::sys::bpf::lock_filter;
use crate::sys::poll::Poll;
use crate::sys::{descriptor, process, socket};

/// Descriptors that stay free whatever workers ask for, and which part of all at most, in eighths: for clients, and for workers to be
/// started. An address is opened only where some more are left, by which others may join it. A worker's first listener may use half of
/// them, so that a replacement serves again, though others have taken what its predecessor gave back.
const KEPT_BY_A_NEW_ONE: (u64, u64) = (128, 3);
const DESCRIPTORS_KEPT: (u64, u64) = (64, 2);
const KEPT_BY_THE_FIRST: (u64, u64) = (32, 1);

impl Addresses {
    /// Sees that descriptors are left for others. Addresses that nobody serves any more are given up first.
    pub(crate) fn spare_descriptors(&mut self, open: Option<u32>, worker: &Entry, poll: &Poll) -> Result<()> {
        let kept = match open {
            None => KEPT_BY_A_NEW_ONE,
            Some(_) if worker.listeners.is_empty() => KEPT_BY_THE_FIRST,
            Some(_) => DESCRIPTORS_KEPT,
        };
        let spare = || descriptor::has_room_for(kept, poll.as_fd());
        if spare() {
            return Ok(());
        }
        self.close_unattended(open, poll);
        if spare() {
            return Ok(());
        }
        Err(Error::new(
            -libc::EMFILE,
            "the primary has no descriptors to spare for another listener; raise its limit (RLIMIT_NOFILE, ulimit -n)",
        ))
    }

    /// Opens what a worker was permitted; the address's id. `may_share`: it may have a socket that others have, too. An error is the asker's alone: nothing is kept of it.
    pub(crate) fn open(
        &mut self,
        permit: Permit,
        request: &Request,
        wanted: Mechanism,
        may_share: bool,
        ground: &mut Ground,
    ) -> Result<u32> {
        let opened = self.try_open(permit, request, (ground.settings.policy, wanted, may_share), ground.poll);
        // The worker that asked gets the error, but a program in the primary may never see that.
        if let Some(text) = self.ladder.take_complaint() {
            ground.news.warn(None, text);
            // The asker may be another thread than the one that takes the events.
            ground.clock.wake();
        }
        if opened.is_ok()
            && let Some(text) = self.ladder.take_notice()
        {
            ground.news.notice(text);
        }
        opened
    }

    fn try_open(
        &mut self,
        Permit { address, place, key, .. }: Permit,
        Request { shape, flags, .. }: &Request,
        (policy, wanted, may_share): (Policy, Mechanism, bool),
        poll: &Poll,
    ) -> Result<u32> {
        let mut beside = false;
        for handle in self.by_id.values_mut().filter(|handle| handle.is_closing() && handle.key == key) {
            handle.make_way();
            beside |= matches!(address, Address::Inet { datagram: false, .. });
        }
        let bound = bind::open(&address, place, shape, if beside { *flags | ListenFlags::REUSEPORT } else { *flags })?;
        if beside {
            // Nobody else comes beside it.
            socket::clear_reuse_port(bound.socket.as_fd())
                .map_err(|errno| Error::os("setsockopt SO_REUSEPORT", errno))?;
        }
        let seed = process::random() as u32;
        let ours = !matches!(address, Address::Inherited(_));
        // Beside a datagram socket of the program's own no other can be bound.
        let shared = policy == Policy::None || (bound.datagram && (wanted == Mechanism::Passed || !ours));
        let in_turn =
            wanted == Mechanism::Rotation && may_share && policy == Policy::RoundRobin && !bound.datagram && !shared;
        if (shared || in_turn) && ours {
            // No worker's filter decides what the others get. A socket of the program's own is left as it is.
            lock_filter(bound.socket.as_fd()).map_err(|errno| Error::os("setsockopt SO_LOCK_FILTER", errno))?;
        }
        let route: Box<dyn Route> = if shared || in_turn {
            let tally =
                if in_turn { Some(Rotation::tally().context("memory for the mechanism \"rotation\"")?) } else { None };
            let all = Shared::new(bound.socket, bound.name, bound.datagram, shape.clone(), ours);
            match tally {
                Some(tally) => Box::new(Rotation::new(all, tally)),
                None => Box::new(all),
            }
        } else if bound.datagram {
            let made = Datagrams::new(bound.socket, bound.name, shape.clone());
            Box::new(made.map_err(|errno| Error::os(format_args!("setsockopt SO_REUSEPORT {address}"), errno))?)
        } else {
            let passed = Passed::new(bound.socket);
            // A load has to be known at the moment of the choice, and there the kernel does not know it.
            let choice = match (&address, policy) {
                (Address::Inet { .. }, Policy::RoundRobin | Policy::SourceHash) => Some(Choice::of(policy)),
                _ => None,
            };
            match (wanted, choice) {
                (Mechanism::Passed, _) | (_, None) => Box::new(passed),
                (wanted, Some(choice)) => {
                    self.ladder.climb(passed, &key, bound.name, shape.clone(), (choice, seed), wanted)?
                }
            }
        };
        let id = loop {
            self.last_id = self.last_id.wrapping_add(1).max(1);
            if !self.by_id.contains_key(&self.last_id) {
                break self.last_id;
            }
        };
        let text = address.to_string();
        let mut handle = Handle::new(id, key.clone(), text, bound.name, bound.datagram, route, bound.file);
        handle.choose_by(policy, seed);
        handle.ours = ours;
        handle.keep_making(*flags, shape);
        if let Err(errno) = handle.register(poll) {
            drop(handle.close(poll));
            return Err(Error::os("watching a listening socket", errno));
        }
        self.by_key.insert(key, id);
        self.by_id.insert(id, handle);
        Ok(id)
    }
}
