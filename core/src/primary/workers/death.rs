//! The end of a worker's process.

use std::time::Instant;

use super::start::ASK_AGAIN;
use super::{Entry, Workers};
use crate::primary::clock::{Clock, Timer};
use crate::primary::event::Event;
use crate::primary::ground::Ground;
use crate::sys::child::ExitStatus;

impl Workers {
    /// How a worker's process has ended, if it has. From here on it is only heard out.
    pub(crate) fn reap(&mut self, id: u32) -> Option<ExitStatus> {
        let entry = self.get_mut(id)?;
        let status = match entry.process.reap() {
            Ok(Some(status)) => status,
            // Not yet, after all: the pidfd stays readable and we come back.
            Ok(None) => return None,
            Err(_) => ExitStatus::Unknown,
        };
        entry.ended = true;
        Some(status)
    }

    /// A worker without a pidfd that runs is asked again.
    pub(crate) fn ask_again(&self, id: u32, now: Instant, clock: &mut Clock) {
        if self.get(id).is_some() {
            clock.add(now + ASK_AGAIN, Timer::Ask(id));
        }
    }

    /// Takes a worker whose process has ended, and that has no listeners any more, out of the books.
    pub(crate) fn remove(&mut self, id: u32, status: ExitStatus, ground: &mut Ground) -> Option<Entry> {
        self.farewells.remove(&id);
        let entry = self.by_id.remove(&id)?;
        // The deadline may be far away, and workers be replaced often until then.
        if let Some((at, _)) = entry.escalation {
            ground.clock.cancel(at, Timer::Escalate(id));
        }
        if let Some(pidfd) = entry.process.pidfd() {
            ground.poll.remove(pidfd);
        }
        entry.link.forget(ground.poll);
        ground.news.push(Event::Exit { worker: entry.reference(), status });
        self.note_end(&entry, status, ground.settings);
        Some(entry)
    }
}
