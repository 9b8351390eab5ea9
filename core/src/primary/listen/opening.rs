//! Opening an address: its socket, and the mechanism by which its connections reach the workers.

use std::os::fd::AsFd;

use super::addresses::Addresses;
use super::joining::Request;
use super::permits::Permit;
use super::routes::Opened;
use super::ways::{Asked, What};
use crate::address::Address;
use crate::bind::{self, ListenFlags};
use crate::error::{Error, Result};
use crate::handle::Handle;
use crate::primary::ground::Ground;
use crate::primary::workers::Entry;
use crate::settings::Mechanism;
use crate::sys::poll::Poll;
use crate::sys::{descriptor, process, socket};

/// Descriptors that stay free whatever workers ask for, and which part of all at most, in eighths: for clients, and for workers to be
/// started. An address is opened only where some more are left, by which others may join it. A worker's first listener may use half of
/// them, so that a replacement serves again, though others have taken what its predecessor gave back.
const KEPT_BY_A_NEW_ONE: (u64, u64) = (128, 3);
const DESCRIPTORS_KEPT: (u64, u64) = (64, 2);
const KEPT_BY_THE_FIRST: (u64, u64) = (32, 1);

/// Who asks for an address that is to be opened.
pub(crate) struct Asker {
    /// What its program has chosen.
    pub(crate) wanted: Mechanism,
    /// It may have a socket that others have, too.
    pub(crate) may_share: bool,
    /// How many workers there are.
    pub(crate) workers: usize,
}

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

    /// Opens what a worker was permitted; the address's id. An error is the asker's alone: nothing is kept of it.
    pub(crate) fn open(&mut self, permit: Permit, request: &Request, asker: Asker, ground: &mut Ground) -> Result<u32> {
        let opened = self.try_open(permit, request, asker, ground);
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
        Asker { wanted, may_share, workers }: Asker,
        ground: &mut Ground,
    ) -> Result<u32> {
        let policy = ground.settings.policy;
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
        let what = What::of(&address, &bound);
        let (name, datagram) = (bound.name, bound.datagram);
        let nonblocking = flags.contains(ListenFlags::NONBLOCK);
        let cpus = self.cpus();
        let asked = Asked { wanted, policy, what, may_share, nonblocking, cpus, workers };
        let opened = Opened { socket: bound.socket, name, shape: shape.clone() };
        let route = self.route(&asked, &key, opened, seed)?;
        let id = loop {
            self.last_id = self.last_id.wrapping_add(1).max(1);
            if !self.by_id.contains_key(&self.last_id) {
                break self.last_id;
            }
        };
        let text = address.to_string();
        let mut handle = Handle::new(id, key.clone(), text, name, datagram, route, bound.file);
        handle.choose_by(policy, seed);
        handle.ours = what.is_ours();
        handle.keep_making(*flags, shape);
        if let Err(errno) = handle.register(ground.poll) {
            drop(handle.close(ground.poll));
            return Err(Error::os("watching a listening socket", errno));
        }
        self.by_key.insert(key, id);
        self.by_id.insert(id, handle);
        Ok(id)
    }
}
