//! A reload that runs: which slots are to be swapped, and which were.

use std::collections::VecDeque;

use super::action::Generation;
use super::coming::Terms;

/// What a reload does while another runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum When {
    /// It takes the other's place.
    #[default]
    AtOnce,
    /// It waits.
    Later,
    /// It is not begun.
    Idle,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReloadOptions {
    /// How many slots are swapped at a time.
    pub(crate) parallel: usize,
    pub(crate) terms: Terms,
    pub(crate) when: When,
    /// What has been swapped stays so when a later one fails.
    pub(crate) keep: bool,
}

impl Default for ReloadOptions {
    fn default() -> Self {
        Self { parallel: 1, terms: Terms::default(), when: When::default(), keep: false }
    }
}

#[derive(Debug)]
pub(super) struct Run {
    pub(super) generation: Generation,
    pub(super) options: ReloadOptions,
    /// Slots that are to be swapped.
    pub(super) todo: VecDeque<u32>,
    /// Slots that were, with the generation that they had.
    pub(super) swapped: Vec<(u32, Generation)>,
    /// It goes back, for this reason; how many it had come to.
    pub(super) back: Option<(String, usize)>,
    pub(super) rolling: bool,
}

impl Run {
    pub(super) fn has_swapped(&self, slot: u32) -> bool {
        self.back.is_none() && self.swapped.iter().any(|(other, _)| *other == slot)
    }

    /// A slot that has come meanwhile.
    pub(super) fn add(&mut self, slot: u32) {
        if self.back.is_none() {
            self.todo.push_back(slot);
        }
    }

    /// A slot that has gone.
    pub(super) fn remove(&mut self, slot: u32) {
        self.todo.retain(|other| *other != slot);
        self.swapped.retain(|(other, _)| *other != slot);
    }

    /// It replaces by this recipe, or may go back to it.
    pub(super) fn needs(&self, generation: Generation) -> bool {
        self.generation == generation || self.swapped.iter().any(|(_, before)| *before == generation)
    }

    pub(super) fn is_to_swap(&self, slot: u32) -> bool {
        self.todo.contains(&slot)
    }
}
