//! Enrolled workers that have ended. Only the program knows whether one is replaced, and may hear of the end later than we do.

use std::time::{Duration, Instant};

use super::due::Due;
use super::recipes::{Recipe, Recipes};
use super::records::{Ended, Left};
use super::{Entry, Workers};
use crate::error::Error;
use crate::primary::ground::Ground;

impl Workers {
    /// From here on workers are enrolled, and we replace those of which the program says so.
    pub(crate) fn replace_enrolled(&mut self) {
        (self.program_decides, self.program_replaces) = (true, true);
        let generation = self.fleet.in_force();
        if self.generations.get(generation).is_none() {
            self.generations.put(generation, Recipes::all_as(Recipe::Enrolled));
        }
    }

    /// From here on nobody is replaced.
    pub(crate) fn replace_nobody(&mut self) {
        self.fleet.stop();
        self.restarts.clear();
        self.due_enrolled.clear();
    }

    pub(super) fn note_left(&mut self, entry: &Entry, sat: bool, ended: Ended) {
        if sat && !self.program_decides {
            self.abandon(entry.slot);
        }
        self.left.insert(entry.id, Left { slot: entry.slot, sat, served: entry.has_served(), ended });
    }

    /// The program is yet to say whether the last worker of this slot is replaced.
    pub(super) fn is_undecided(&self, slot: u32) -> bool {
        self.left.values().any(|left| left.sat && left.slot == slot)
    }

    /// The program says that an enrolled worker has ended, and is not replaced by us. Whether it had taken a connection.
    pub(crate) fn take_leave(&mut self, id: u32) -> bool {
        let Some(Left { slot, sat, served, .. }) = self.left.remove(&id) else { return false };
        if sat && self.program_decides {
            self.abandon(slot);
        }
        served
    }

    /// The same for one that we are to replace, not sooner than `least`. In how long that is, if nobody is on the way already.
    pub(crate) fn follow(&mut self, id: u32, least: Duration, deserted: bool, ground: &mut Ground) -> Option<Duration> {
        let Left { slot, sat, ended, .. } = self.left.remove(&id)?;
        if !sat {
            return None;
        }
        self.records.note(slot, Ended { least, ..ended });
        self.want_replacement(slot, deserted, ground);
        self.restarts.delay(slot, Instant::now())
    }

    /// One that was due could not be enrolled or started. When the next attempt is made, if we make one.
    pub(crate) fn due_enrolled_failed(
        &mut self,
        due: Due,
        error: &Error,
        deserted: bool,
        ground: &mut Ground,
    ) -> Option<Duration> {
        self.could_not_start(due.0, error, ground);
        self.want_replacement(due.0.slot, deserted, ground);
        self.restarts.delay(due.0.slot, Instant::now())
    }
}
