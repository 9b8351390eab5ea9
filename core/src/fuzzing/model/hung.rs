//! Workers that stand still, and come back.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;

use super::is_datagram;
use super::life::{AT_MOST, Life, next_of};
use crate::fuzzing::puppet::{Share, connect};

/// How many clients come at once: as many as some get to each worker.
pub(super) const CLIENTS: usize = 12;
/// What may wait for one that is known to stand still: what shows that it is back, and no client; see `Share::waits`.
const SIGN: usize = crate::wire::NOP.len();

impl Life {
    fn shares<'a>(&'a self, key: &'a str, hung: u32) -> impl Iterator<Item = &'a Share> {
        let well =
            self.puppets.iter().filter(move |puppet| puppet.id != hung && self.model.workers[&puppet.id].has(key));
        well.flat_map(move |puppet| puppet.shares.iter().filter(move |share| share.key == key))
    }

    fn take_of_others(&self, key: &str, hung: u32) -> usize {
        let waiting = |share: &Share| std::iter::from_fn(|| next_of(share)).count();
        self.shares(key, hung).map(waiting).sum()
    }

    /// The others serve so many clients, while one worker does nothing.
    pub(super) fn served_without(&mut self, key: &str, hung: u32, count: usize) -> TestCaseResult {
        self.closed_loop(key, hung, count, 0)
    }

    /// The same while another client comes for each that is served, so many in all.
    fn closed_loop(&mut self, key: &str, hung: u32, count: usize, mut more: usize) -> TestCaseResult {
        let end = Instant::now() + AT_MOST;
        let (mut served, all) = (0, count + more);
        let (mut most, mut least) = (0, usize::MAX);
        while served < all {
            prop_assert!(Instant::now() < end, "{} of {} clients are served while worker {} hangs", served, all, hung);
            self.turn(Duration::from_millis(5));
            let waiting: usize = self.shares_of(key, hung).map(Share::waits).sum();
            prop_assert!(
                waiting <= usize::saturating_add(least, SIGN),
                "worker {} is known to hang and is given clients",
                hung
            );
            // It takes nothing, so those who do not wait for it any more were given to others.
            least = if waiting < most { waiting.min(least) } else { least };
            most = most.max(waiting);
            let taken = self.take_of_others(key, hung);
            self.come(key, taken.min(more))?;
            more -= taken.min(more);
            served += taken;
        }
        Ok(())
    }

    pub(super) fn come(&mut self, key: &str, count: usize) -> TestCaseResult {
        for _ in 0..count {
            let client = connect(&self.names[key]);
            prop_assert!(client.is_some(), "an open address refuses nobody");
            self.clients.extend(client);
        }
        Ok(())
    }

    /// An address at which several serve, and nobody waits.
    pub(super) fn busy_key(&self) -> Option<String> {
        let all_serve = |key: &String| self.model.workers.values().all(|worker| !worker.has(key) || worker.serves(key));
        let fits = |key: &&String| {
            !is_datagram(key)
                && self.serving(key).len() >= 2
                && all_serve(key)
                && self.model.open.get(*key) == Some(&Some(0))
        };
        self.names.keys().find(fits).cloned()
    }

    /// A worker stands still: the others serve everybody, time after time. Then it is back, and serves as well.
    pub(super) fn hang(&mut self) -> TestCaseResult {
        if self.limit.is_some() {
            return Ok(());
        }
        self.take_everything()?;
        let Some(key) = &self.busy_key() else { return Ok(()) };
        // What moves to another's socket when one is shut down, the primary takes from one who is not known to stand still.
        self.until_retired_end();
        let serving = self.serving(key);
        // So many for each that the primary takes more than a turn to give them to others.
        let (hung, count) = (serving[0], 40 * serving.len());
        self.come(key, count)?;
        self.closed_loop(key, hung, count, 3 * count)?;
        // It takes what shows that it is back.
        prop_assert_eq!(self.take_of(key, hung), 0);
        let end = Instant::now() + AT_MOST;
        let mut served = 0;
        while served == 0 {
            prop_assert!(Instant::now() < end, "worker {} is back and gets nobody", hung);
            self.come(key, serving.len())?;
            self.turn(Duration::from_millis(5));
            served += self.take_of(key, hung);
        }
        self.settle();
        self.take_all(key, 0);
        Ok(())
    }

    pub(super) fn shares_of<'a>(&'a self, key: &'a str, worker: u32) -> impl Iterator<Item = &'a Share> {
        let puppet = self.puppets.iter().filter(move |puppet| puppet.id == worker);
        puppet.flat_map(move |puppet| puppet.shares.iter().filter(move |share| share.key == key))
    }

    pub(super) fn take_of(&self, key: &str, worker: u32) -> usize {
        self.shares_of(key, worker).map(|share| std::iter::from_fn(|| next_of(share)).count()).sum()
    }

    /// The cluster is told to stop while a worker stands still: the others serve everybody who had come.
    pub(super) fn stop_while_one_hangs(&mut self) -> TestCaseResult {
        // For want of descriptors the primary may rest for longer than the deadline.
        let Some(key) = &self.busy_key().filter(|_| self.limit.is_none()) else { return Ok(()) };
        let (hung, deadline) = (self.serving(key)[0], Duration::from_millis(40));
        self.come(key, CLIENTS)?;
        self.settle();
        // The others have nothing to do, however late the primary looks.
        let taken = self.take_of_others(key, hung);
        self.primary.stop(deadline);
        self.served_without(key, hung, CLIENTS - taken)
    }
}
