//! What the program is told, and how often of what a worker can bring about at will.

use std::time::Instant;

use super::event::{Event, WorkerRef};
use super::refused::Refused;
use crate::error::Error;

#[derive(Default)]
pub(crate) struct News {
    events: Vec<Event>,
    /// Listens that were refused.
    refused: Refused,
}

impl News {
    pub(crate) fn push(&mut self, event: Event) {
        self.events.push(event);
    }

    pub(crate) fn warn(&mut self, worker: Option<WorkerRef>, text: String) {
        self.events.push(Event::Warning { worker, text });
    }

    pub(crate) fn notice(&mut self, text: String) {
        self.events.push(Event::Notice { text });
    }

    /// A worker was refused an address, by the rules. `untold`: how many times before it that were not told.
    pub(crate) fn may_not_listen(&mut self, worker: WorkerRef, error: &Error, untold: u32) {
        self.warn(Some(worker), format!("it may not listen: {}{}", error.sentence(), others(untold)));
    }

    /// A worker did not get an address, which its program may well keep to itself.
    pub(crate) fn cannot_listen(&mut self, worker: WorkerRef, address: &str, error: &Error) {
        if let Some(untold) = self.refused.note(address, Instant::now()) {
            let sentence: String = error.sentence().chars().flat_map(visible).collect();
            self.warn(Some(worker), format!("it cannot listen: {sentence}{}", others(untold)));
        }
    }

    pub(crate) fn take(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }
}

fn others(untold: u32) -> String {
    if untold > 0 { format!(" ({untold} more refusals were not told)") } else { String::new() }
}

/// What a worker wrote may be in a sentence, and the sentence goes to a log.
fn visible(letter: char) -> impl Iterator<Item = char> {
    let escaped = letter.is_control().then(|| letter.escape_default());
    let plain = (!letter.is_control()).then_some(letter);
    escaped.into_iter().flatten().chain(plain)
}
