//! Replacing workers that have done enough.

use std::time::Duration;

use super::{Entry, Workers};
use crate::fleet::Why;
use crate::recycle::{Done, RecycleOptions};
use crate::sys::process::anonymous_kib;

/// How often it is looked at what they have done.
pub(crate) const LOOK: Duration = Duration::from_secs(5);

fn done_by(entry: &Entry, options: &RecycleOptions) -> Done {
    // That asks the kernel, so only where it matters.
    let memory = options.memory.and_then(|_| anonymous_kib(entry.process.pid()));
    Done {
        memory: memory.map(|kib| kib.saturating_mul(1024)),
        connections: entry.board.taken(),
        requests: entry.board.counts().requests,
        age: entry.started.elapsed(),
    }
}

impl Workers {
    /// From here on workers are recycled like this. When to look, if at all.
    pub(crate) fn recycle(&mut self, options: RecycleOptions) -> Option<Duration> {
        self.fleet.replace_at_a_time(options.at_a_time.max(1));
        self.recycling = options;
        self.look_for_recycling()
    }

    fn look_for_recycling(&self) -> Option<Duration> {
        let age = self.recycling.age.unwrap_or(LOOK);
        self.recycling.any().then(|| LOOK.min(age))
    }

    /// Has those replaced that have done enough. When to look again, if at all.
    pub(crate) fn recycle_those_who_have_done_enough(&mut self) -> Option<Duration> {
        let options = self.recycling;
        let enough = |entry: &&Entry| {
            entry.ready && !entry.is_leaving() && options.is_enough(&done_by(entry, &options), entry.jitter)
        };
        for id in self.by_id.values().filter(enough).map(|entry| entry.id).collect::<Vec<u32>>() {
            // One that is being replaced already needs nothing more.
            let _ = self.fleet.replace(id, Why::Recycle);
        }
        self.look_for_recycling()
    }
}
