//! Replacing workers, and giving up where nothing ever began: which life was short, whose turn it is, and whether every
//! slot has failed by what the primary knows itself.

use std::time::{Duration, Instant};

use super::due::Ordered;
use super::records::{Ended, FAILURES};
use super::{Entry, Workers};
use crate::error::Error;
use crate::primary::ground::Ground;
use crate::restart::{Life, Pace, Respawn};
use crate::settings::Settings;
use crate::sys::child::ExitStatus;
use crate::sys::process;

fn how(status: ExitStatus) -> String {
    match status {
        ExitStatus::Code(code) => format!("exited with code {code}"),
        ExitStatus::Signal(signal) => format!("was ended by signal {signal}"),
        _ => "ended".to_owned(),
    }
}

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
    let how = how(status);
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

    /// A worker has ended. If it sat in its slot, that gets another, if the settings say so.
    pub(super) fn note_end(&mut self, entry: &Entry, status: ExitStatus, settings: &Settings) {
        let respawn = settings.respawn;
        let failed = respawn != Respawn::OnFailure || status != ExitStatus::Code(0);
        let listened = entry.listened || !entry.listens_elsewhere.is_empty();
        let life = Life { lasted: entry.started.elapsed(), listened, served: entry.has_served() };
        let sat = self.fleet.sits(entry.id);
        self.fleet.ended(entry.id, life.is_short(), &how(status));
        let ended = Ended { life, failure: failure_of(entry, status), least: Duration::ZERO };
        if entry.enrolled {
            self.note_left(entry, sat, ended);
        } else if failed && self.may_be_replaced(respawn) {
            if sat {
                self.records.note(entry.slot, ended);
            }
        } else if sat {
            self.abandon(entry.slot);
        }
    }

    /// Nobody is to be made for a slot that is empty.
    pub(super) fn abandon(&mut self, slot: u32) {
        self.records.take(slot);
        if self.fleet.abandon(slot) {
            self.generations.forget(slot);
        }
    }

    /// It is said where a worker is gone that was to be replaced.
    pub(super) fn say_not_replaced(&self, Ordered { slot, beside, .. }: Ordered, error: &Error, ground: &mut Ground) {
        if !beside {
            let text = format!("the worker of slot {slot} could not be replaced and will be tried again: {error}");
            ground.news.warn(None, text);
        }
    }

    /// A worker that was ordered could not be made.
    pub(super) fn could_not_start(&mut self, ordered: Ordered, error: &Error, ground: &mut Ground) {
        let Ordered { slot, beside, order, .. } = ordered;
        if !beside {
            self.records.note(slot, Ended { failure: Some(error.clone()), ..Ended::default() });
        }
        self.fleet.started(order, Err(error.to_string()), Instant::now());
        ground.clock.wake();
    }

    /// A slot has lost its worker: when the next one is made, if one is. `deserted`: some address has no worker, also below.
    pub(crate) fn want_replacement(&mut self, slot: u32, deserted: bool, ground: &mut Ground) {
        if !self.fleet.lacks_somebody(slot) || self.is_undecided(slot) || self.restarts.has(slot) {
            return;
        }
        if self.fleet.was_last(slot) {
            self.abandon(slot);
            return;
        }
        // Nobody has ended where whoever was on the way there was not waited for any more, or has failed.
        let delay = self.records.take(slot).map_or(Duration::ZERO, |ended| {
            self.records.delay(slot, ended, ground.settings.restart_delay, process::random_share())
        });
        self.restarts.plan(slot, Instant::now(), delay);
        self.await_restart(deserted, ground);
        // It may be due at once, and this may be between two turns.
        ground.clock.wake();
    }

    fn pace(&self, settings: &Settings, deserted: bool) -> Pace {
        let deserted = if deserted { Pace::deserted(settings.restart_delay.0) } else { None };
        Pace { slots: self.fleet.size(), deserted }
    }

    /// Some slot waits for its replacement.
    pub(crate) fn are_some_due(&self) -> bool {
        !self.restarts.is_empty()
    }

    /// Makes the replacements whose turn has come.
    pub(crate) fn run_restarts(&mut self, now: Instant, deserted: bool, ground: &mut Ground) {
        let pace = self.pace(ground.settings, deserted);
        while let Some(slot) = self.restarts.take(now, pace) {
            self.fleet.replace_now(slot);
        }
        self.await_restart(deserted, ground);
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
        let (slots, failure) = self.records.hopeless(self.fleet.wanted_slots())?;
        let all = if slots == 1 { "the only worker".to_owned() } else { format!("each of the {slots} workers") };
        Some(Error::new(
            failure.code(),
            format!("nothing could be served: {all} failed {FAILURES} times running, at last: {}", failure.sentence()),
        ))
    }
}
