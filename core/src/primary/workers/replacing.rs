//! Replacing workers, and giving up where nothing ever began: which life was short, whose turn it is, and whether every
//! slot has failed by what the primary knows itself.

use std::time::Instant;

use super::slots::{FAILURES, Recipe};
use super::{Entry, Workers};
use crate::error::Error;
use crate::primary::ground::Ground;
use crate::restart::{Life, Pace, Respawn};
use crate::settings::Settings;
use crate::sys::child::ExitStatus;
use crate::sys::process;

/// Why a worker never listened, if the primary knows: it refused the listen itself, or the worker never spoke.
fn failure_of(entry: &Entry, status: ExitStatus) -> Option<Error> {
    if entry.listened {
        return None;
    }
    if let Some(refused) = &entry.refused {
        return Some(refused.clone());
    }
    if entry.link.greeted || entry.was_asked_to_leave() {
        return None;
    }
    let how = match status {
        ExitStatus::Code(code) => format!("exited with code {code}"),
        ExitStatus::Signal(signal) => format!("was ended by signal {signal}"),
        _ => "ended".to_owned(),
    };
    Some(Error::new(
        -libc::ENOTCONN,
        format!(
            "worker {} {how} before it said that it is online; is its program one that uses libcluster, and does its channel \
             reach it?",
            entry.id
        ),
    ))
}

impl Workers {
    /// A worker of ours that is started now is replaced one day, as the settings are.
    pub(super) fn may_be_replaced(&self, respawn: Respawn) -> bool {
        match respawn {
            Respawn::Default => self.respawn_by_default,
            Respawn::Never => false,
            Respawn::OnFailure | Respawn::Always => true,
        }
    }

    /// A worker that was not asked for its end has ended: its slot gets another, if the settings say so. `deserted`: some address has
    /// no worker, also below.
    pub(crate) fn replace(&mut self, entry: &Entry, status: ExitStatus, deserted: bool, ground: &mut Ground) {
        let respawn = ground.settings.respawn;
        let failed = respawn != Respawn::OnFailure || status != ExitStatus::Code(0);
        if self.may_be_replaced(respawn) && failed {
            let life = Life { lasted: entry.started.elapsed(), listened: entry.listened, served: entry.has_served() };
            self.plan(entry.slot, (life, failure_of(entry, status)), deserted, ground);
        } else {
            self.slots.let_go(Some(entry.slot));
        }
    }

    /// A replacement could not be made: it is tried again later.
    pub(crate) fn retry(&mut self, slot: u32, error: &Error, deserted: bool, ground: &mut Ground) {
        ground
            .news
            .warn(None, format!("the worker of slot {slot} could not be replaced and will be tried again: {error}"));
        self.plan(slot, (Life::default(), Some(error.clone())), deserted, ground);
    }

    fn plan(&mut self, slot: u32, life: (Life, Option<Error>), deserted: bool, ground: &mut Ground) {
        let jitter = (process::random() >> 11) as f64 / (1_u64 << 53) as f64;
        if let Some(delay) = self.slots.plan_replacement(slot, life, ground.settings.restart_delay, jitter) {
            self.restarts.plan(slot, Instant::now(), delay);
            self.await_restart(deserted, ground);
            // It may be due at once, and this may be between two turns.
            ground.clock.wake();
        }
    }

    fn pace(&self, settings: &Settings, deserted: bool) -> Pace {
        let deserted = if deserted { Pace::deserted(settings.restart_delay.0) } else { None };
        Pace { slots: self.slots.count(), deserted }
    }

    /// Some slot waits for its replacement.
    pub(crate) fn are_some_due(&self) -> bool {
        !self.restarts.is_empty()
    }

    /// Makes the replacements whose turn has come.
    pub(crate) fn run_restarts(&mut self, now: Instant, deserted: bool, ground: &mut Ground) {
        let pace = self.pace(ground.settings, deserted);
        while let Some(slot) = self.restarts.take(now, pace) {
            match self.slots.replacement(slot) {
                None | Some(Recipe::Enrolled) => {}
                Some(Recipe::Fork) => self.due_forks.push(slot),
                Some(Recipe::Program(plan)) => {
                    if let Err(error) = self.spawn(slot, plan, ground) {
                        self.retry(slot, &error, deserted, ground);
                    }
                }
            }
        }
        self.await_restart(deserted, ground);
    }

    /// Slots whose worker was made by fork and is due to be replaced.
    pub(crate) fn take_due_fork(&mut self) -> Option<u32> {
        while let Some(slot) = self.due_forks.pop() {
            if !self.stopping && self.slots.replacement(slot).is_some() {
                return Some(slot);
            }
        }
        None
    }

    /// Sets the alarm to the next replacement. It may come earlier than was thought, when an address is left by its last worker.
    fn await_restart(&mut self, deserted: bool, ground: &mut Ground) {
        if let Some(at) = self.restarts.next_at(self.pace(ground.settings, deserted)) {
            ground.clock.restart_by(at);
        }
    }

    /// Why there is no hope that anything ever listens, if nothing has: every slot has failed time after time by what the primary
    /// knows itself.
    pub(crate) fn hopeless(&self) -> Option<Error> {
        if self.stopping {
            return None;
        }
        let (slots, failure) = self.slots.hopeless()?;
        let all = if slots == 1 { "the only worker".to_owned() } else { format!("each of the {slots} workers") };
        Some(Error::new(
            failure.code(),
            format!("nothing could be served: {all} failed {FAILURES} times running, at last: {}", failure.sentence()),
        ))
    }
}
