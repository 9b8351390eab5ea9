//! What the model of a cluster's lives knows of workers that stand still, and of what a worker leaves behind.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;

use super::model::Life;
use super::puppet::{Share, connect};
use crate::settings::Mechanism;
use crate::sys::socket;

/// How many clients come at once: as many as some get to each worker.
const CLIENTS: usize = 12;
/// Longer than a worker stands still before it is known, by far.
const AT_MOST: Duration = Duration::from_secs(3);

impl Life {
    /// Who serves an address and is not about to leave.
    fn serving(&self, key: &str) -> Vec<u32> {
        let serving = |(id, worker): (&u32, &super::model::Worker)| worker.serves(key).then_some(*id);
        self.model.workers.iter().filter_map(serving).collect()
    }

    fn shares<'a>(&'a self, key: &'a str, hung: u32) -> impl Iterator<Item = &'a Share> {
        let well =
            self.puppets.iter().filter(move |puppet| puppet.id != hung && self.model.workers[&puppet.id].has(key));
        well.flat_map(move |puppet| puppet.shares.iter().filter(move |share| share.key == key))
    }

    fn take_of_others(&self, key: &str, hung: u32) -> usize {
        let waiting = |share: &Share| std::iter::from_fn(|| super::model::next_of(share)).count();
        self.shares(key, hung).map(waiting).sum()
    }

    /// The others serve so many clients, while one worker does nothing.
    fn served_without(&mut self, key: &str, hung: u32, count: usize) -> TestCaseResult {
        let end = Instant::now() + AT_MOST;
        let mut served = 0;
        while served < count {
            prop_assert!(
                Instant::now() < end,
                "{} of {} clients are served while worker {} hangs",
                served,
                count,
                hung
            );
            self.primary.turn(Some(Duration::from_millis(5))).unwrap();
            served += self.take_of_others(key, hung);
        }
        Ok(())
    }

    fn come(&mut self, key: &str, count: usize) -> TestCaseResult {
        for _ in 0..count {
            let client = connect(&self.names[key]);
            prop_assert!(client.is_some(), "an open address refuses nobody");
            self.clients.extend(client);
        }
        Ok(())
    }

    /// An address at which several serve, and nobody waits.
    fn busy_key(&self) -> Option<String> {
        let all_serve = |key: &String| self.model.workers.values().all(|worker| !worker.has(key) || worker.serves(key));
        let fits = |key: &&String| {
            self.serving(key).len() >= 2 && all_serve(key) && self.model.open.get(*key) == Some(&Some(0))
        };
        self.names.keys().find(fits).cloned()
    }

    /// A worker stands still: the others serve everybody, time after time.
    pub(super) fn hang(&mut self) -> TestCaseResult {
        let Some(key) = &self.busy_key() else { return Ok(()) };
        let serving = self.serving(key);
        // So many for each that the primary has a whole turn to give to others, and the mailbox is empty at its end.
        let (hung, count) = (serving[0], 32 * serving.len());
        // Until it is known.
        self.come(key, count)?;
        self.served_without(key, hung, count)?;
        for _ in 0..4 {
            self.come(key, count)?;
            self.served_without(key, hung, count)?;
        }
        // It takes what shows that it is back.
        let puppet = self.puppets.iter().find(|puppet| puppet.id == hung).unwrap();
        for share in puppet.shares.iter().filter(|share| share.key == *key) {
            prop_assert_eq!(std::iter::from_fn(|| super::model::next_of(share)).count(), 0);
        }
        Ok(())
    }

    /// The cluster is told to stop while a worker stands still: the others serve everybody who had come.
    pub(super) fn stop_while_one_hangs(&mut self) -> TestCaseResult {
        let Some(key) = &self.busy_key() else { return Ok(()) };
        let (hung, deadline) = (self.serving(key)[0], Duration::from_millis(40));
        self.come(key, CLIENTS)?;
        self.settle();
        // The others have nothing to do, however late the primary looks.
        let taken = self.take_of_others(key, hung);
        self.primary.stop(deadline);
        self.served_without(key, hung, CLIENTS - taken)
    }

    /// A worker crashes and leaves a process behind that has its slots' sockets.
    pub(super) fn leave_behind(&mut self) -> TestCaseResult {
        let Some(key) = &self.busy_key() else { return Ok(()) };
        let of_kernel = |share: &Share| share.key == *key && share.socket.is_some();
        let Some(who) = self.puppets.iter().position(|puppet| puppet.shares.iter().any(of_kernel)) else {
            return Ok(());
        };
        let sockets = self.puppets[who].shares.iter().filter_map(|share| share.socket.as_ref());
        let left: Vec<OwnedFd> = sockets.map(|socket| socket::duplicate(socket.as_fd()).unwrap()).collect();
        self.left.extend(left);
        self.end(who, false);
        // For so long the sockets go on listening, for handshakes that had begun.
        let end = Instant::now() + Duration::from_millis(130);
        while Instant::now() < end {
            self.primary.turn(Some(Duration::from_millis(10))).unwrap();
        }
        self.rise();
        self.come(key, CLIENTS)?;
        self.settle();
        self.stole_nothing()?;
        self.served_without(key, 0, CLIENTS)
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
        prop_assert!(self.primary.settings().mechanism != Mechanism::Passed || self.left.is_empty());
        for socket in &self.left {
            prop_assert!(
                socket::accept_alone(socket.as_fd(), libc::SOCK_CLOEXEC).is_err(),
                "a client met what was left behind"
            );
        }
        Ok(())
    }
}
