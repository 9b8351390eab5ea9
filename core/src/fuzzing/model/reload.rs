//! All workers are replaced: each by one that listens on the same, beside it, and gets nothing before it has its place.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;

use super::hung::CLIENTS;
use super::life::{AT_MOST, Life};
use super::{WORKERS_MAX, key};
use crate::fleet::{Outcome, Phase};
use crate::fuzzing::puppet::{Puppet, Share, Taken};
use crate::primary::{Event, ReloadOptions};
use crate::settings::Mechanism;

/// What the primary has told of reloads.
#[derive(Default)]
pub(super) struct Told {
    leave: Vec<u32>,
    ended: Option<Outcome>,
}

impl Told {
    pub(super) fn hear(&mut self, event: &Event) {
        match event {
            Event::Leave { worker, .. } => self.leave.push(worker.id),
            Event::Reload { phase: Phase::Ended(outcome), .. } => self.ended = Some(*outcome),
            _ => {}
        }
    }
}

impl Life {
    /// `parallel`: so many at a time. `late`: the new ones do something else before they begin.
    pub(super) fn reload(&mut self, parallel: usize, late: bool) -> TestCaseResult {
        let settled = |puppet: &Puppet| {
            let worker = &self.model.workers[&puppet.id];
            !worker.leaving && !worker.hushed
        };
        let all_serve = self.puppets.iter().all(settled) && self.model.workers.len() == self.puppets.len();
        if self.limit.is_some() || self.puppets.is_empty() || self.puppets.len() > WORKERS_MAX || !all_serve {
            return Ok(());
        }
        self.take_everything()?;
        let olds: BTreeSet<u32> = self.puppets.iter().map(|puppet| puppet.id).collect();
        self.told = Told::default();
        let options = ReloadOptions { parallel, min_ready: Duration::ZERO, ready_timeout: None, ..Default::default() };
        prop_assert!(self.primary.reload(&options).is_ok());
        let end = Instant::now() + AT_MOST;
        while self.told.ended.is_none() {
            prop_assert!(Instant::now() < end, "the reload goes on for ever");
            self.turn(Duration::from_millis(5));
            while let Some(due) = self.primary.take_due_enrolled() {
                let place = self.primary.enroll_due(due);
                prop_assert!(place.is_ok(), "a worker cannot be started: {:?}", place.err());
                self.come_beside(place.map(Puppet::at).unwrap())?;
            }
            self.have_leave(late)?;
        }
        self.have_leave(late)?;
        prop_assert_eq!(self.told.ended, Some(Outcome::Done));
        prop_assert!(self.puppets.iter().all(|puppet| !olds.contains(&puppet.id)), "all were replaced");
        if late { self.hang_before_beginning() } else { Ok(()) }
    }

    /// One stands still from the moment at which it has its place: what waits for it others serve, and it begins when it is back.
    fn hang_before_beginning(&mut self) -> TestCaseResult {
        let Some(key) = self.busy_key() else { return Ok(()) };
        self.until_retired_end();
        let hung = self.serving(&key)[0];
        self.come(&key, CLIENTS)?;
        self.served_without(&key, hung, CLIENTS)?;
        self.settle();
        prop_assert_eq!(self.take_of(&key, hung), 0);
        let waits = self.shares_of(&key, hung).any(Share::waits_for_begin);
        prop_assert!(!waits, "it is never told to begin");
        self.settle();
        self.take_all(&key, 0);
        Ok(())
    }

    fn come_beside(&mut self, mut puppet: Puppet) -> TestCaseResult {
        let (id, slot) = (puppet.id, self.primary.worker_info(puppet.id).unwrap().worker.slot);
        puppet.rotates = self.primary.settings().mechanism == Mechanism::Rotation && !id.is_multiple_of(3);
        puppet.say(puppet.greeting()).unwrap();
        let old = self.model.workers.values().find(|worker| worker.slot == slot);
        let shares = old.map(|worker| worker.shares.clone()).unwrap_or_default();
        self.begins(id, slot)?;
        self.puppets.push(puppet);
        self.settle();
        let who = self.puppets.len() - 1;
        let mut asked = BTreeSet::new();
        let places: Vec<_> = (0..self.places())
            .filter(|place| shares.contains(&key(*place)) && asked.insert(key(*place)))
            .map(|place| (who, place, true))
            .collect();
        self.ask(&places)
    }

    /// Those who were told to leave do so in order.
    fn have_leave(&mut self, late: bool) -> TestCaseResult {
        for id in std::mem::take(&mut self.told.leave) {
            let Some(who) = self.puppets.iter().position(|puppet| puppet.id == id) else { continue };
            let slot = self.model.workers[&id].slot;
            self.end(who, true);
            self.settle();
            let new = self.puppets.iter().find(|puppet| self.model.workers[&puppet.id].slot == slot);
            prop_assert!(new.is_some(), "somebody has its place");
            for share in new.into_iter().filter(|_| !late).flat_map(|puppet| &puppet.shares) {
                prop_assert!(begins(share), "{} is told to begin", share.key);
            }
        }
        Ok(())
    }
}

/// Takes what says that it has its turns.
fn begins(share: &Share) -> bool {
    matches!(share.take(), Taken::Begin)
}
