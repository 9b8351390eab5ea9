//! Replacing workers, and giving up where nothing ever began: which life was short, whose turn it is, and whether every
//! slot has failed by what the primary knows itself.

use std::time::{Duration, Instant};

use super::Primary;
use super::registry::{Entry, Recipe};
use crate::error::Error;
use crate::restart::{Life, Pace, Respawn};
use crate::sys::process::{self, ExitStatus};

/// So many failures of every slot in a row are enough while nothing has ever listened.
const FAILURES: u32 = 3;

/// What failed in one slot, time after time.
#[derive(Default)]
pub(crate) struct Failures {
    count: u32,
    last: Option<Error>,
}

impl Failures {
    fn note(&mut self, failure: Option<Error>) {
        self.count = if failure.is_some() { self.count.saturating_add(1) } else { 0 };
        self.last = failure;
    }

    pub(super) fn are_enough(&self) -> bool {
        self.count >= FAILURES
    }

    pub(super) fn last(&self) -> Option<&Error> {
        self.last.as_ref()
    }
}

/// Why a worker never listened, if the primary knows: it refused the listen itself, or the worker never spoke.
fn failure_of(entry: &Entry, status: ExitStatus) -> Option<Error> {
    if let Some(refused) = &entry.refused {
        return Some(refused.clone());
    }
    if entry.greeted || entry.was_asked_to_leave() {
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

impl Primary {
    /// A worker of ours that is started now is replaced one day, as the settings are.
    pub(super) fn may_be_replaced(&self) -> bool {
        match self.settings.respawn {
            Respawn::Default => self.respawn_by_default,
            Respawn::Never => false,
            Respawn::OnFailure | Respawn::Always => true,
        }
    }

    /// A worker that was not asked for its end has ended: its slot gets another, if the settings say so.
    pub(super) fn replace(&mut self, entry: &Entry, status: ExitStatus) {
        let replace = match self.settings.respawn {
            Respawn::Default => self.respawn_by_default,
            Respawn::Never => false,
            Respawn::OnFailure => status != ExitStatus::Code(0),
            Respawn::Always => true,
        };
        if replace {
            let life = Life { lasted: entry.started.elapsed(), listened: entry.listened, served: entry.has_served() };
            let failure = if entry.listened { None } else { failure_of(entry, status) };
            self.plan_respawn(entry.slot, life, failure);
        } else {
            self.registry.let_go(Some(entry.slot));
        }
    }

    /// A replacement could not be made: say so, and try again later.
    pub fn retry_respawn(&mut self, slot: u32, error: &Error) {
        self.news
            .warn(None, format!("the worker of slot {slot} could not be replaced and will be tried again: {error}"));
        self.plan_respawn(slot, Life::default(), Some(error.clone()));
    }

    fn plan_respawn(&mut self, slot: u32, life: Life, failure: Option<Error>) {
        let jitter = (process::random() >> 11) as f64 / (1_u64 << 53) as f64;
        if let Some(failures) = self.registry.failures_mut(slot) {
            failures.note(failure);
        }
        if let Some(delay) = self.registry.plan_replacement(slot, life, self.settings.restart_delay, jitter) {
            self.restarts.plan(slot, Instant::now(), delay);
            self.await_restart();
            // It may be due at once, and this may be between two turns.
            self.clock.wake();
        }
    }

    fn pace(&self) -> Pace {
        let deserted = self.handles.iter().any(|handle| handle.is_given_up());
        let least = self.settings.restart_delay.0;
        Pace { slots: self.registry.count_slots(), deserted: if deserted { Pace::deserted(least) } else { None } }
    }

    /// Makes the replacements whose turn has come.
    pub(super) fn run_restarts(&mut self, now: Instant) {
        if self.restarts.is_empty() {
            return;
        }
        let pace = self.pace();
        while let Some(slot) = self.restarts.take(now, pace) {
            match self.registry.replacement(slot) {
                None | Some(Recipe::Enrolled) => {}
                Some(Recipe::Fork) => self.due_forks.push(slot),
                Some(Recipe::Program(plan)) => {
                    if let Err(error) = self.spawn_into(slot, plan) {
                        self.retry_respawn(slot, &error);
                    }
                }
            }
        }
        self.await_restart();
    }

    /// Sets the alarm to the next replacement. It may come earlier than was thought, when an address is left by its last worker.
    fn await_restart(&mut self) {
        let Some(at) = self.restarts.next_at(self.pace()) else { return };
        self.clock.restart_by(at);
    }

    /// Something listens: from now on the primary never gives up.
    pub(super) fn has_listened(&mut self, worker: u32) {
        self.ever_listened = true;
        if let Some(entry) = self.registry.get_mut(worker) {
            (entry.listened, entry.refused) = (true, None);
        }
    }

    /// Why there is no hope that anything ever listens: every slot has failed time after time by what the primary knows itself.
    fn hopeless(&self) -> Option<Error> {
        if self.ever_listened || self.stopping {
            return None;
        }
        let (slots, failure) = self.registry.hopeless()?;
        let all = if slots == 1 { "the only worker".to_owned() } else { format!("each of the {slots} workers") };
        Some(Error::new(
            failure.code(),
            format!("nothing could be served: {all} failed {FAILURES} times running, at last: {}", failure.sentence()),
        ))
    }

    /// Stops the cluster if there is no hope, and says why.
    pub(crate) fn give_up(&mut self) -> Option<Error> {
        let why = self.hopeless()?;
        self.stop(Duration::ZERO);
        Some(why)
    }

    /// A listen of a worker was refused, which its program may well keep to itself.
    pub(super) fn note_refused(&mut self, worker: u32, address: &str, told: bool, error: &Error) {
        let Some(entry) = self.registry.get_mut(worker) else { return };
        if entry.was_asked_to_leave() || error.is(libc::ESHUTDOWN) {
            return;
        }
        if !entry.listened {
            entry.refused = Some(error.clone());
        }
        let reference = entry.reference();
        if told {
            return;
        }
        self.news.cannot_listen(reference, address, error);
    }
}
