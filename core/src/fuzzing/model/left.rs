//! What a worker that crashes leaves behind: a process that has the sockets of its slots.

use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;

use super::hung::CLIENTS;
use super::is_datagram;
use super::life::{AT_MOST, Life};
use crate::fuzzing::puppet::{Share, datagrams, elsewhere};
use crate::settings::Mechanism;
use crate::sys::{descriptor, socket};

/// So many that each socket of a group gets some.
const PEERS: usize = 32;

impl Life {
    pub(super) fn leave_behind(&mut self) -> TestCaseResult {
        if let Some(key) = self.busy_key()
            && self.crash_at(&key)
        {
            self.until_retired_end();
            self.rise();
            self.come(&key, CLIENTS)?;
            self.settle();
            self.stole_nothing()?;
            self.served_without(&key, 0, CLIENTS)?;
        }
        let served = |key: &&String| is_datagram(key) && self.serving(key).len() >= 2;
        if let Some(key) = self.names.keys().find(served).cloned()
            && self.crash_at(&key)
        {
            self.settle();
            self.peers(&key, PEERS)?;
        }
        Ok(())
    }

    /// For so long the sockets of those who left go on listening, for handshakes that had begun. Then the watch looks whether anybody
    /// moved to another's: what may have moved is taken from a worker that is not known to stand still.
    pub(super) fn until_retired_end(&mut self) {
        if self.primary.settings().mechanism == Mechanism::Passed {
            return;
        }
        let begun = Instant::now();
        let over = |watching: bool| begun.elapsed() >= if watching { AT_MOST } else { Duration::from_millis(130) };
        while !over(self.primary.is_watching()) {
            self.turn(Duration::from_millis(10));
        }
    }

    /// One who has a socket of its own at an address crashes, and a process is left that has its sockets of this kind.
    fn crash_at(&mut self, key: &str) -> bool {
        // Of a socket that all have nobody can tell who takes from it.
        let own = |share: &Share| share.key == *key && share.socket.is_some() && !share.is_common();
        let serves = |id: &u32| self.model.workers[id].serves(key);
        let who = self.puppets.iter().position(|puppet| serves(&puppet.id) && puppet.shares.iter().any(own));
        let Some(who) = who.filter(|_| self.primary.settings().mechanism != Mechanism::Passed) else { return false };
        let alike = |share: &&Share| is_datagram(&share.key) == is_datagram(key);
        let alike = |share: &&Share| alike(share) && !share.is_common();
        let sockets = self.puppets[who].shares.iter().filter(alike).filter_map(|share| share.socket.as_ref());
        self.left.extend(sockets.map(|socket| elsewhere(descriptor::duplicate(socket.as_fd()).unwrap())));
        self.end(who, false);
        true
    }

    /// What was left behind tries to have the clients that come next.
    pub(super) fn rise(&self) {
        for socket in &self.left {
            let _ = socket::set_reuse_port(socket.as_fd());
            let _ = socket::listen(socket.as_fd(), 64);
            let _ = socket::clear_reuse_port(socket.as_fd());
        }
    }

    /// They are nobody's who is no worker any more.
    pub(super) fn stole_nothing(&self) -> TestCaseResult {
        for socket in &self.left {
            let met = socket::accept_alone(socket.as_fd(), libc::SOCK_CLOEXEC).is_ok();
            prop_assert!(!met, "a client met what was left behind");
            prop_assert_eq!(datagrams(socket.as_fd()), 0, "datagrams met what was left behind");
        }
        Ok(())
    }

    /// Peers write to an address, each from a socket of its own: its workers hear all of them.
    pub(super) fn peers(&mut self, key: &str, count: usize) -> TestCaseResult {
        if self.serving(key).is_empty() {
            return Ok(());
        }
        self.rise();
        let name = self.names[key];
        for _ in 0..count {
            let peer = socket::open(name.family(), true).unwrap();
            socket::connect(peer.as_fd(), &name).unwrap();
            let sent = nix::sys::socket::send(peer.as_raw_fd(), b"?", nix::sys::socket::MsgFlags::empty());
            prop_assert_eq!(sent, Ok(1));
        }
        self.settle();
        let members = self.puppets.iter().filter(|puppet| self.model.workers[&puppet.id].has(key));
        let shares = members.flat_map(|puppet| puppet.shares.iter().filter(|share| share.key == key));
        let heard: usize = shares.map(Share::hear).sum();
        prop_assert_eq!(heard, count, "datagrams of peers that a worker has heard");
        self.stole_nothing()
    }
}
