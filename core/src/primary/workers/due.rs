//! Workers that are to be made.

use crate::fleet::{Generation, Order};

/// A worker that the program is to make, by fork or as it makes those that it enrolls, as only it can.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due(pub(super) Ordered);

impl Due {
    /// The slot that it is for.
    pub fn slot(&self) -> u32 {
        self.0.slot
    }

    /// It gets no turns before it has taken the place of whoever has the slot.
    pub fn is_beside(&self) -> bool {
        self.0.beside
    }

    /// By whose recipe it is to be made.
    pub fn generation(&self) -> Generation {
        self.0.generation
    }
}

/// What the fleet has ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ordered {
    pub(crate) slot: u32,
    pub(crate) generation: Generation,
    /// It gets no turns yet.
    pub(crate) beside: bool,
    pub(crate) order: Order,
}

/// What a worker is made for.
#[derive(Clone, Copy)]
pub(super) enum For {
    /// The program wants one more.
    Program,
    Fleet(Ordered),
}
