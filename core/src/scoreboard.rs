//! One page of memory for each worker: what it has taken and how loaded it is, told without a system call.
//!
//! The fields are those of docs/protocol.md. The primary and the worker each write a cache line of their own. Without the
//! page (a limit, a system call filter) everything works but is seen later or not at all.
//!
//! Whatever a worker writes, the worst is a wrong figure about itself: the primary reads integers of which every value
//! is possible, never back what it wrote itself, and bounds what it counts with.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::sys::Sys;
use crate::sys::fork_guard::ForkGuard;
use crate::sys::memory::SharedPage;

/// u64, the primary's: connections put into the worker's mailboxes and not taken back.
const DELIVERED: usize = 0;
/// u64, the worker's: connections that it has accepted from its shares.
const TAKEN: usize = 64;
/// u64, the worker's: another value whenever it has looked for connections.
const BEAT: usize = 72;
/// u32, the worker's: its load, in a unit of its own.
const LOAD: usize = 80;
/// u32, the worker's: how often it has told its load.
const LOADS: usize = 84;

/// u32, the worker's: not 0 once it has said that it is ready.
const READY: usize = 88;

/// u64, u64, u32, u32, the worker's program's: requests and those that failed; how many are under way; how late its event loop is, in
/// microseconds.
const REQUESTS: usize = 128;
const ERRORS: usize = 136;
const ACTIVE: usize = 144;
const LATE: usize = 148;
/// u32 each, the same: how many requests took so long, by the power of two of their microseconds.
const TOOK: usize = 192;
const TIMES: usize = 24;

/// The most that is believed of a count: what every language of ours can tell exactly.
const COUNT_MAX: u64 = (1 << 53) - 1;

/// A worker's load as it was told last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Load {
    /// In a unit of the workers' own.
    pub(crate) load: u32,
    /// Another value whenever the worker has told its load, also the same load again.
    pub(crate) reports: u32,
}

/// What a worker's program counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counter {
    /// Requests that were answered.
    Requests = 1,
    /// Those of them that failed.
    Errors = 2,
    /// Requests that are under way.
    Active = 3,
}

/// What a worker's program has counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Requests that were answered.
    pub requests: u64,
    /// Those of them that failed.
    pub errors: u64,
    /// Requests that are under way.
    pub active: u32,
    /// How late its event loop is, where it tells.
    pub late: Duration,
}

/// A worker's page as the primary has it, and what the primary knows itself.
#[derive(Default)]
pub(crate) struct Board {
    page: Option<SharedPage>,
    delivered: AtomicU64,
    /// The most that `taken` was.
    taken: AtomicU64,
    /// What came as a frame, and how often the page had told a load by then.
    told: AtomicU32,
    told_at: AtomicU32,
    frames: AtomicU32,
}

impl Board {
    /// With the descriptor for the worker. `None`: there is no page, and it is done without.
    pub(crate) fn new() -> (Self, Option<OwnedFd>) {
        match SharedPage::new(c"cluster-scoreboard") {
            Ok((page, file)) => (Self { page: Some(page), ..Self::default() }, Some(file)),
            Err(_) => (Self::default(), None),
        }
    }

    /// A connection was put into one of the worker's mailboxes.
    pub(crate) fn put(&self) {
        self.show_delivered(self.delivered.fetch_add(1, Ordering::Relaxed) + 1);
    }

    /// One was taken back out.
    pub(crate) fn took_back(&self) {
        let left = self.delivered.load(Ordering::Relaxed).saturating_sub(1);
        self.delivered.store(left, Ordering::Relaxed);
        self.show_delivered(left);
    }

    fn show_delivered(&self, count: u64) {
        if let Some(page) = &self.page {
            page.u64_at::<DELIVERED>().store(count, Ordering::Relaxed);
        }
    }

    /// Connections that the worker says it has taken. Never falls.
    pub(crate) fn taken(&self) -> u64 {
        let says = self.page.as_ref().map_or(0, |page| page.u64_at::<TAKEN>().load(Ordering::Relaxed)).min(COUNT_MAX);
        self.taken.fetch_max(says, Ordering::Relaxed).max(says)
    }

    /// The worker can count what it takes.
    pub(crate) fn is_counted(&self) -> bool {
        self.page.is_some()
    }

    /// Another value whenever the worker has looked for connections since, or its event loop has turned; `None` of one
    /// that does not tell. To be compared for equality only.
    pub(crate) fn progress(&self) -> Option<u64> {
        let beat = self.page.as_ref()?.u64_at::<BEAT>().load(Ordering::Relaxed);
        (beat != 0).then_some(beat)
    }

    /// What its program has counted.
    pub(crate) fn counts(&self) -> Counts {
        let Some(page) = &self.page else { return Counts::default() };
        Counts {
            requests: page.u64_at::<REQUESTS>().load(Ordering::Relaxed).min(COUNT_MAX),
            errors: page.u64_at::<ERRORS>().load(Ordering::Relaxed).min(COUNT_MAX),
            active: page.u32_at::<ACTIVE>().load(Ordering::Relaxed),
            late: Duration::from_micros(page.u32_at::<LATE>().load(Ordering::Relaxed).into()),
        }
    }

    /// Whether it has said that it is ready; `None`: it cannot.
    pub(crate) fn is_ready(&self) -> Option<bool> {
        self.page.as_ref().map(|page| page.u32_at::<READY>().load(Ordering::Acquire) != 0)
    }

    /// The worker told its load in a frame.
    pub(crate) fn tell_load(&self, load: u32) {
        self.told_at.store(self.loads(), Ordering::Relaxed);
        self.told.store(load, Ordering::Relaxed);
        self.frames.fetch_add(1, Ordering::Relaxed);
    }

    /// What it told last, either way.
    pub(crate) fn load(&self) -> Load {
        let loads = self.loads();
        let reports = loads.wrapping_add(self.frames.load(Ordering::Relaxed));
        let load = match &self.page {
            Some(page) if loads != self.told_at.load(Ordering::Relaxed) => {
                page.u32_at::<LOAD>().load(Ordering::Relaxed)
            }
            _ => self.told.load(Ordering::Relaxed),
        };
        Load { load, reports }
    }

    fn loads(&self) -> u32 {
        // Pairs with the worker's: who sees the count sees the load that was counted, or a later one.
        self.page.as_ref().map_or(0, |page| page.u32_at::<LOADS>().load(Ordering::Acquire))
    }
}

/// The page of this process, a worker. Everything here is async-signal-safe and for any thread, and does nothing in a copy
/// of the worker that fork(2) made.
pub(crate) struct OwnBoard {
    page: SharedPage,
    guard: ForkGuard,
}

impl OwnBoard {
    /// The page that came with the hello.
    pub(crate) fn new(file: BorrowedFd) -> Sys<Self> {
        let page = SharedPage::of(file)?;
        let guard = ForkGuard::new().ok_or(nix::errno::Errno::ENOMEM)?;
        Ok(Self { page, guard })
    }

    /// A connection of one of its shares was taken.
    pub(crate) fn took(&self) {
        if !self.guard.is_forked() {
            self.page.u64_at::<TAKEN>().fetch_add(1, Ordering::Relaxed);
        }
    }

    /// It has looked for connections. Not a count: of two threads that meet here one may go unseen.
    pub(crate) fn beat(&self) {
        if !self.guard.is_forked() {
            let beat = self.page.u64_at::<BEAT>();
            beat.store(beat.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        }
    }

    /// It is ready from here on.
    pub(crate) fn tell_ready(&self) {
        if !self.guard.is_forked() {
            self.page.u32_at::<READY>().store(1, Ordering::Release);
        }
    }

    /// Its program counts so many more, or fewer.
    pub(crate) fn count(&self, counter: Counter, by: i64) {
        if self.guard.is_forked() {
            return;
        }
        match counter {
            Counter::Requests => drop(self.page.u64_at::<REQUESTS>().fetch_add(by as u64, Ordering::Relaxed)),
            Counter::Errors => drop(self.page.u64_at::<ERRORS>().fetch_add(by as u64, Ordering::Relaxed)),
            Counter::Active => drop(self.page.u32_at::<ACTIVE>().fetch_add(by as u32, Ordering::Relaxed)),
        }
    }

    /// Its program has answered one more request, in this time.
    pub(crate) fn answered(&self, microseconds: u32) {
        self.count(Counter::Requests, 1);
        let bucket = (microseconds.max(1).ilog2() as usize).min(TIMES - 1);
        if !self.guard.is_forked() {
            self.page.u32_among::<TOOK, TIMES>(bucket).fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The load that it told last.
    pub(crate) fn own_load(&self) -> u32 {
        self.page.u32_at::<LOAD>().load(Ordering::Relaxed)
    }

    /// Shows the worker's load.
    pub(crate) fn tell_load(&self, load: u32) {
        if !self.guard.is_forked() {
            self.page.u32_at::<LOAD>().store(load, Ordering::Relaxed);
            self.page.u32_at::<LOADS>().fetch_add(1, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use proptest::prelude::*;

    use super::*;

    fn both() -> (Board, OwnBoard) {
        let (board, file) = Board::new();
        let own = OwnBoard::new(file.unwrap().as_fd()).unwrap();
        (board, own)
    }

    #[test]
    fn the_primary_sees_what_the_worker_did() {
        let (board, own) = both();
        assert_eq!((board.taken(), board.progress(), board.load()), (0, None, Load::default()));
        own.took();
        own.beat();
        own.took();
        own.tell_load(70);
        assert_eq!((board.taken(), board.progress()), (2, Some(1)));
        assert_eq!(board.load(), Load { load: 70, reports: 1 });
        own.tell_load(70);
        assert_eq!(board.load(), Load { load: 70, reports: 2 });
    }

    #[test]
    fn the_newest_load_counts_whichever_way_it_came() {
        let (board, own) = both();
        own.tell_load(1);
        board.tell_load(2);
        assert_eq!(board.load(), Load { load: 2, reports: 2 });
        own.tell_load(3);
        assert_eq!(board.load(), Load { load: 3, reports: 3 });
    }

    #[test]
    fn without_a_page_the_primary_knows_what_it_did_itself() {
        let board = Board::default();
        board.put();
        board.took_back();
        board.tell_load(9);
        assert_eq!((board.taken(), board.progress()), (0, None));
        assert_eq!(board.load(), Load { load: 9, reports: 1 });
    }

    #[test]
    fn what_the_primary_delivered_stands_on_the_page() {
        let (board, own) = both();
        (0..5).for_each(|_| board.put());
        board.took_back();
        assert_eq!(own.page.u64_at::<DELIVERED>().load(Ordering::Relaxed), 4);
    }

    #[test]
    fn what_a_forked_copy_of_the_worker_does_is_not_seen() {
        let (board, own) = both();
        own.tell_load(5);
        let copied = crate::sys::fork_guard::in_a_child(|| {
            own.took();
            own.beat();
            own.tell_load(6);
            true
        });
        assert!(copied);
        assert_eq!((board.taken(), board.progress(), board.load()), (0, None, Load { load: 5, reports: 1 }));
    }

    #[test]
    fn the_two_sides_write_different_cache_lines() {
        let line = |offset: usize| offset / 64;
        for worker in [TAKEN, BEAT, LOAD, LOADS, READY] {
            assert_ne!(line(worker), line(DELIVERED));
        }
    }

    /// What a hostile worker may do to its page between two looks of the primary.
    fn contents() -> impl Strategy<Value = [u64; 12]> {
        proptest::array::uniform12(prop_oneof![any::<u64>(), Just(0), Just(u64::MAX), 0..100_u64])
    }

    proptest! {
        #[test]
        fn no_contents_make_more_than_a_wrong_figure(pages in proptest::collection::vec(contents(), 1..6), put in 0..20_u64) {
            let (board, own) = both();
            (0..put).for_each(|_| board.put());
            let mut before = board.taken();
            for page in pages {
                macro_rules! write {
                    ($($word:literal)*) => { $(own.page.u64_at::<{ 8 * $word }>().store(page[$word], Ordering::Relaxed);)* };
                }
                write!(0 1 2 3 4 5 6 7 8 9 10 11);
                let after = board.taken();
                prop_assert!(after >= before && after <= COUNT_MAX);
                let _ = (board.progress(), board.load());
                board.tell_load(7);
                prop_assert_eq!(board.load().load, 7, "a load by frame is not the page's to change");
                board.put();
                board.took_back();
                prop_assert_eq!(board.delivered.load(Ordering::Relaxed), put, "what the primary counts is its own");
                before = after;
            }
        }
    }
}
