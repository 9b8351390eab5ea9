//! What is done to a fleet by chance.

use proptest::prelude::*;

use crate::fleet::When;

#[derive(Debug, Clone)]
pub(super) enum Deed {
    Reload {
        parallel: usize,
        when: When,
        keep: bool,
        fate: Fate,
    },
    Scale(usize),
    Restart(usize),
    Recycle(usize),
    Crash(usize, bool),
    /// Those who leave do so.
    Drain,
    /// The next few cannot be started, for want of something.
    Shortage(usize),
    /// One closes its listener, or opens it again.
    Close(usize),
    /// Nobody is replaced any more.
    Cancel,
    Pass(u64),
}

/// What becomes of the workers of a generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Good,
    CannotStart,
    Exits,
    Hangs,
    ListensOnLess,
    /// Never says that it is ready.
    SaysNothing,
    /// All but the first few are good.
    FailsAfter(u32),
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        4 => Just(Fate::Good),
        1 => Just(Fate::CannotStart),
        1 => Just(Fate::Exits),
        1 => Just(Fate::Hangs),
        1 => Just(Fate::ListensOnLess),
        1 => Just(Fate::SaysNothing),
        2 => (1..4_u32).prop_map(Fate::FailsAfter),
    ]
}

pub(super) fn deed() -> impl Strategy<Value = Deed> {
    let when = prop_oneof![4 => Just(When::AtOnce), 1 => Just(When::Later), 1 => Just(When::Idle)];
    prop_oneof![
        3 => (1..4_usize, when, any::<bool>(), fate()).prop_map(|(parallel, when, keep, fate)| Deed::Reload { parallel, when, keep, fate }),
        2 => (0..9_usize).prop_map(Deed::Scale),
        2 => (0..9_usize).prop_map(Deed::Restart),
        1 => (0..9_usize).prop_map(Deed::Recycle),
        2 => (0..9_usize, any::<bool>()).prop_map(|(which, short)| Deed::Crash(which, short)),
        2 => Just(Deed::Drain),
        1 => (1..4_usize).prop_map(Deed::Shortage),
        1 => (0..9_usize).prop_map(Deed::Close),
        1 => Just(Deed::Cancel),
        8 => (1..2000_u64).prop_map(Deed::Pass),
    ]
}
