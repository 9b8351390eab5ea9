//! Connections that workers hand back when they leave: they are taken, judged, and go to whoever is next at their address.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use super::Primary;
use super::clock::Timer;
use super::session::Session;
use super::talk::{Judged, Returned, Returns};
use crate::handback::{Fit, fit};
use crate::mailbox::Connection;
use crate::sys::{attached, descriptor, socket};
use crate::wire::Malformed;

/// So many of one worker are taken in one turn, so that others do not wait for that; and so many at its end, which is more than its
/// socket holds, and no more: a child of it may go on to send.
const PER_TURN: usize = 64;
const AT_THE_END: usize = 1024;
/// How soon is tried again what there was no room or no descriptor for.
const AGAIN: Duration = Duration::from_millis(5);

impl Primary {
    /// Takes what a worker has handed back, while somebody has room for it.
    pub(super) fn take_returns(&mut self, worker: u32) {
        let Some(mut session) = self.session(worker) else { return };
        match session.take_returns(PER_TURN, true) {
            Ok(None) => session.watch_returns(true),
            Ok(Some(pause)) => {
                session.watch_returns(false);
                self.clock.add(Instant::now() + pause, Timer::Returns(worker));
            }
            Err(offence) => session.punish(offence),
        }
    }

    /// No worker has anything to hand back to: what is there comes in before the doors are shut.
    pub(super) fn end_returns(&mut self) {
        for id in self.workers.ids() {
            if let Some(mut session) = self.session(id)
                && let Err(offence) = session.end_returns()
            {
                session.punish(offence);
            }
        }
    }
}

impl Session<'_> {
    /// The worker is about to be told to leave. If others go on serving what it serves, it may hand connections back.
    pub(super) fn offer_returns(&mut self) {
        let worker = &mut *self.worker;
        if self.takes_none_back || worker.confined || !worker.link.hands_back || worker.returns.is_some() {
            return;
        }
        let own = worker.listeners.iter().filter(|(listener, _)| !worker.relayed.contains(listener));
        let listeners: BTreeMap<u32, u32> = own.map(|(listener, address)| (*listener, *address)).collect();
        let is_served =
            |address: &u32| self.addresses.get(*address).is_some_and(|handle| handle.is_served_beside(worker.id));
        if !listeners.values().any(is_served) {
            return;
        }
        // Without it the worker closes its connections itself.
        let Ok((returns, theirs)) = Returns::new(worker.id, listeners, self.ground.poll) else { return };
        if worker.link.give_returns(theirs.as_fd(), &mut self.ground) {
            worker.returns = Some(returns);
        } else {
            returns.close(self.ground.poll);
        }
    }

    /// Takes so many connections at most; only while there is room for them, if `patient`. For how long nothing more is to be taken, if
    /// there may be more.
    fn take_returns(&mut self, most: usize, patient: bool) -> Judged<Option<Duration>> {
        for _ in 0..most {
            let Some(returns) = &self.worker.returns else { return Ok(None) };
            let is_full = |address| self.addresses.get(address).is_some_and(|handle| !handle.has_room_for_returns());
            if patient && returns.addresses().any(is_full) {
                return Ok(Some(AGAIN));
            }
            match returns.next()? {
                Returned::Nothing => return Ok(None),
                Returned::End => {
                    self.close_returns();
                    return Ok(None);
                }
                Returned::Short => return Ok(Some(AGAIN)),
                Returned::One(address, file) => self.hand_on(address, file)?,
            }
            if let Some(pause) = self.worker.link.charge_beside(1).filter(|_| patient) {
                return Ok(Some(pause));
            }
        }
        Ok(None)
    }

    fn hand_on(&mut self, address: u32, file: OwnedFd) -> Judged<()> {
        let Some(handle) = self.addresses.touch(address) else {
            attached::close_elsewhere(file);
            return Ok(());
        };
        match fit(file.as_fd(), &handle.name) {
            Fit::Connection(peer) => {
                socket::do_not_linger(file.as_fd());
                // As every connection arrives.
                if descriptor::make_blocking(file.as_fd()).is_ok() {
                    handle.hand_on(Connection { socket: file, peer });
                }
                Ok(())
            }
            // Its client has gone.
            Fit::Unconnected => {
                socket::do_not_linger(file.as_fd());
                Ok(())
            }
            Fit::NoSocket(_) | Fit::Other(_) => {
                attached::close_elsewhere(file);
                Err(Malformed("something other than a connection of the address where it hands connections back"))
            }
        }
    }

    fn watch_returns(&self, is_wanted: bool) {
        if let Some(returns) = &self.worker.returns {
            returns.watch(is_wanted, self.ground.poll);
        }
    }

    /// It hands nothing back any more. What it has is taken.
    pub(super) fn end_returns(&mut self) -> Judged<()> {
        let taken = self.take_returns(AT_THE_END, false);
        self.close_returns();
        taken.map(drop)
    }

    /// Nor is anything taken.
    pub(super) fn close_returns(&mut self) {
        if let Some(returns) = self.worker.returns.take() {
            returns.close(self.ground.poll);
        }
    }
}
