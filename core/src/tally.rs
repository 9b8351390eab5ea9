//! One page of memory for each address in rotation: how many connections all who accept there have taken, and how many they are.
//! Whoever takes one counts it there, and so knows without a system call whether it has had its part.
//!
//! Only processes of one user have the page. Whatever one of them writes, the worst is that turns are not even.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::sys::Sys;
use crate::sys::memory::SharedPage;

/// u64, everybody's: connections taken in this round.
const TAKEN: usize = 0;
/// u32, the primary's: by how many parts they are shared.
const PARTS: usize = 64;
/// u32, the primary's: another value whenever `TAKEN` has begun anew.
const ROUND: usize = 68;

/// How far a part may fall behind the mean and have all of it made up for. A worker that stood still for long would else be the first
/// for as long, whenever it is idle.
const MADE_UP_FOR: u64 = 1024;

/// The page as the primary has it, with the descriptor for the workers.
pub(crate) struct Tally {
    page: SharedPage,
    file: OwnedFd,
    /// Taken in earlier rounds.
    before: u64,
    parts: u32,
}

impl Tally {
    pub(crate) fn new() -> Sys<Self> {
        let (page, file) = SharedPage::new(c"cluster-tally")?;
        Ok(Self { page, file, before: 0, parts: 0 })
    }

    pub(crate) fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// A part of it for this process.
    pub(crate) fn own_part(&self) -> Sys<Part> {
        Part::of(self.file.as_fd())
    }

    /// From here on so many parts share what comes. Those who were there before have had no more than those who come.
    pub(crate) fn share_among(&mut self, parts: u32) {
        if parts == self.parts {
            return;
        }
        self.parts = parts;
        self.before = self.taken();
        self.page.u64_at::<TAKEN>().store(0, Ordering::Relaxed);
        self.page.u32_at::<PARTS>().store(parts, Ordering::Relaxed);
        // Pairs with a part's: who sees the round sees its beginning.
        self.page.u32_at::<ROUND>().fetch_add(1, Ordering::Release);
    }

    /// Connections that all have taken since the address was opened. Another value whenever one is taken; to be believed as far as the
    /// workers are.
    pub(crate) fn taken(&self) -> u64 {
        self.before.wrapping_add(self.page.u64_at::<TAKEN>().load(Ordering::Relaxed))
    }
}

/// The page as one who takes connections has it.
pub(crate) struct Part {
    page: SharedPage,
    round: AtomicU32,
    /// What this one has taken in that round.
    own: AtomicU64,
}

impl Part {
    /// The page that came with a grant.
    pub(crate) fn of(file: BorrowedFd) -> Sys<Self> {
        Ok(Self { page: SharedPage::of(file)?, round: AtomicU32::new(0), own: AtomicU64::new(0) })
    }

    /// Counts a connection that was taken; by several threads at once, too. True: this one has had its part, and others come first
    /// now. `parts`: how many this one stands for.
    pub(crate) fn took(&self, parts: u32) -> bool {
        let round = self.page.u32_at::<ROUND>().load(Ordering::Acquire);
        if self.round.swap(round, Ordering::Relaxed) != round {
            self.own.store(0, Ordering::Relaxed);
        }
        let taken = self.page.u64_at::<TAKEN>().fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        let own = self.own.fetch_add(1, Ordering::Relaxed) + 1;
        let all = self.page.u32_at::<PARTS>().load(Ordering::Relaxed).max(parts).max(1);
        let due = u128::from(taken) * u128::from(parts);
        let mean = u64::try_from(due / u128::from(all)).unwrap_or(u64::MAX);
        if own.saturating_add(MADE_UP_FOR) < mean {
            self.own.store(mean - MADE_UP_FOR, Ordering::Relaxed);
        }
        u128::from(own) * u128::from(all) >= due
    }

    /// How many more than the mean this one has taken in this round.
    pub(crate) fn ahead(&self) -> u64 {
        if self.round.load(Ordering::Relaxed) != self.page.u32_at::<ROUND>().load(Ordering::Acquire) {
            return 0;
        }
        self.own.load(Ordering::Relaxed).saturating_sub(self.taken() / u64::from(self.parts()))
    }

    /// What all have taken in this round. Another value whenever a connection is taken.
    pub(crate) fn taken(&self) -> u64 {
        self.page.u64_at::<TAKEN>().load(Ordering::Relaxed)
    }

    /// As a worker may that does what it likes.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn scribble(&self, where_to: u8, value: u32) {
        match where_to % 4 {
            0 => self.page.u64_at::<TAKEN>().store(value.into(), Ordering::Relaxed),
            1 => self.page.u64_at::<TAKEN>().store(u64::from(value) << 32 | u64::from(value), Ordering::Relaxed),
            2 => self.page.u32_at::<PARTS>().store(value, Ordering::Relaxed),
            _ => self.page.u32_at::<ROUND>().store(value, Ordering::Relaxed),
        }
    }

    /// By how many parts it is shared.
    pub(crate) fn parts(&self) -> u32 {
        self.page.u32_at::<PARTS>().load(Ordering::Relaxed).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_parts(parts: u32, owners: usize) -> (Tally, Vec<Part>) {
        let mut tally = Tally::new().unwrap();
        tally.share_among(parts);
        let owners = (0..owners).map(|_| tally.own_part().unwrap()).collect();
        (tally, owners)
    }

    #[test]
    fn who_has_had_less_than_the_mean_stays_in_front() {
        let (_tally, owners) = with_parts(2, 2);
        assert!(owners[0].took(1), "one of one taken");
        assert!(owners[0].took(1));
        assert!(!owners[1].took(1), "one of three taken");
        assert!(owners[1].took(1), "two of four taken");
    }

    #[test]
    fn one_may_stand_for_several() {
        let (_tally, owners) = with_parts(4, 2);
        let first: Vec<bool> = (0..3).map(|_| owners[0].took(3)).collect();
        assert_eq!(first, [true; 3]);
        assert!(owners[1].took(1), "one of four taken");
        assert!(owners[1].took(1));
        assert!(!owners[0].took(3), "four of six taken, and three quarters are due");
    }

    #[test]
    fn a_new_round_begins_when_somebody_comes_or_goes() {
        let (mut tally, owners) = with_parts(2, 2);
        for _ in 0..5 {
            owners[0].took(1);
        }
        tally.share_among(2);
        assert!(!owners[1].took(1), "nothing has changed");
        tally.share_among(3);
        assert!(owners[1].took(1));
        assert!(owners[0].took(1), "what it had before is forgotten");
        assert_eq!(tally.taken(), 8);
    }

    #[test]
    fn who_was_away_is_not_made_up_for_more_than_a_little() {
        let (_tally, owners) = with_parts(2, 2);
        for _ in 0..20_000 {
            owners[0].took(1);
        }
        let in_front = (0..20_000).take_while(|_| !owners[1].took(1)).count() as u64;
        assert!((MADE_UP_FOR / 2..=2 * MADE_UP_FOR + 2).contains(&in_front), "{in_front}");
    }

    #[test]
    fn it_is_known_how_far_ahead_one_is() {
        let (mut tally, owners) = with_parts(2, 2);
        for _ in 0..40 {
            owners[0].took(1);
        }
        assert_eq!((owners[0].ahead(), owners[1].ahead(), owners[1].taken()), (20, 0, 40));
        tally.share_among(3);
        assert_eq!((owners[0].ahead(), owners[0].parts(), owners[0].taken()), (0, 3, 0));
    }

    #[test]
    fn whatever_stands_in_the_page_is_survived() {
        let (tally, owners) = with_parts(2, 1);
        for taken in [0, 1, u64::MAX - 1, u64::MAX] {
            for parts in [0, 1, u32::MAX] {
                tally.page.u64_at::<TAKEN>().store(taken, Ordering::Relaxed);
                tally.page.u32_at::<PARTS>().store(parts, Ordering::Relaxed);
                owners[0].took(1);
                owners[0].took(u32::MAX);
                owners[0].ahead();
                tally.taken();
            }
        }
    }
}
