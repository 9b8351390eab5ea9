//! Listens that are answered a little later. A socket file that a dead server left is replaced only under the lock of its directory
//! (flock(2)), which anybody may hold who can read that; the primary does not sleep until it is free, but looks again.

use std::time::{Duration, Instant};

use super::Primary;
use super::clock::Timer;
use crate::bind;
use crate::error::Result;
use crate::wire::Malformed;

/// How often one looks again, and for how long.
const AGAIN: Duration = Duration::from_millis(10);
const LONGEST: Duration = Duration::from_millis(100);

/// What a worker asked for.
pub(super) struct Asked {
    pub(super) worker: u32,
    pub(super) number: u32,
    pub(super) flags: u32,
    pub(super) backlog: i32,
    pub(super) index: u32,
    pub(super) address: String,
}

/// Those that wait, one of a worker at most, and until when.
#[derive(Default)]
pub(super) struct Postponed(Vec<(Asked, Instant)>);

impl Primary {
    /// A worker asks for a share of an address.
    pub(super) fn asked_to_listen(&mut self, asked: Asked) -> std::result::Result<(), Malformed> {
        let (told, answer) = self.try_listen(&asked);
        if answer.as_ref().is_err_and(bind::is_locked)
            && !self.postponed.0.iter().any(|(one, _)| one.worker == asked.worker)
        {
            let now = Instant::now();
            if self.postponed.0.is_empty() {
                self.clock.add(now + AGAIN, Timer::Listen);
            }
            self.postponed.0.push((asked, now + LONGEST));
            return Ok(());
        }
        self.say_whether(&asked, told, answer)
    }

    /// With whether the program was told of a refusal on the way.
    fn try_listen(&mut self, asked: &Asked) -> (bool, Result<u32>) {
        let refusals = |primary: &Self| primary.registry.get(asked.worker).map(|entry| entry.refusals.count());
        let before = refusals(self);
        let answer = self.listen(asked.worker, asked.flags, asked.backlog, asked.index, &asked.address);
        (refusals(self).is_none_or(|after| Some(after) != before), answer)
    }

    fn say_whether(&mut self, asked: &Asked, told: bool, answer: Result<u32>) -> std::result::Result<(), Malformed> {
        let answer = answer.map_err(bind::unless_locked);
        if let Err(error) = &answer {
            self.note_refused(asked.worker, &asked.address, told, error);
        }
        self.answer(asked.worker, asked.number, answer)
    }

    /// Looks again whether the locks are free.
    pub(super) fn listen_again(&mut self, now: Instant) {
        let mut waiting = std::mem::take(&mut self.postponed.0);
        waiting.retain(|(asked, _)| {
            self.registry.get(asked.worker).is_some_and(|entry| !entry.ended && entry.channel.is_some())
        });
        let mut still = Vec::new();
        for (asked, until) in waiting {
            let (told, answer) = self.try_listen(&asked);
            if answer.as_ref().is_err_and(bind::is_locked) && now < until {
                still.push((asked, until));
            } else if let Err(offence) = self.say_whether(&asked, told, answer) {
                self.punish(asked.worker, offence);
            }
        }
        if !still.is_empty() {
            self.clock.add(now + AGAIN, Timer::Listen);
        }
        self.postponed.0.extend(still);
    }
}
