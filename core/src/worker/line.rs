//! A worker's place in the line of those who wait for connections at a socket that all have.
//!
//! The kernel keeps the line: those with an exclusive entry for the socket in an epoll, in the order in which they were made.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, TryLockError};

use nix::errno::Errno;

use crate::sys::poll::Poll;
use crate::sys::{Sys, lock, socket};
use crate::tally::Part;

pub(super) struct Line {
    socket: OwnedFd,
    /// How turns are kept even. `None`: whoever was first stays so (NONE).
    part: Option<Part>,
    within: AtomicBool,
    /// It is to stay outside until the primary says so.
    waits_for_begin: AtomicBool,
    /// The kernel was short of memory for its entry.
    fallen: AtomicBool,
    /// The primary was told that it is within.
    seated: AtomicBool,
    place: Mutex<Option<Place>>,
}

struct Place {
    poll: Arc<Poll>,
    data: u64,
}

impl Line {
    /// Outside of it. `waits`: it is to stay there until `begin`.
    pub(super) fn new(socket: OwnedFd, part: Option<Part>, waits: bool) -> Self {
        let [within, waits_for_begin, fallen, seated] = [false, waits, false, false].map(AtomicBool::new);
        Self { socket, part, within, waits_for_begin, fallen, seated, place: Mutex::new(None) }
    }

    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Turns are even among all.
    pub(super) fn is_in_turn(&self) -> bool {
        self.part.is_some()
    }

    pub(super) fn is_within(&self) -> bool {
        self.within.load(Ordering::SeqCst)
    }

    /// Whether the primary has to be told that it is within, or that it is not any more.
    pub(super) fn take_news(&self) -> Option<bool> {
        let within = self.is_within();
        (self.seated.swap(within, Ordering::SeqCst) != within).then_some(within)
    }

    /// There was no memory for its entry.
    pub(super) fn has_fallen(&self) -> bool {
        self.fallen.load(Ordering::Relaxed)
    }

    /// Stands in line again, if it has fallen out and there is memory now.
    pub(super) fn come_back(&self) {
        let place = lock(&self.place);
        if let Some(at) = place.as_ref().filter(|_| !self.is_within() && !self.waits_for_begin()) {
            self.stand(at.poll.add_exclusive(&self.socket, at.data));
        }
    }

    pub(super) fn waits_for_begin(&self) -> bool {
        self.waits_for_begin.load(Ordering::SeqCst)
    }

    /// The primary has said that this worker has turns: it enters where it was to.
    pub(super) fn begin(&self) {
        let place = lock(&self.place);
        if self.waits_for_begin.swap(false, Ordering::SeqCst)
            && let Some(at) = &*place
        {
            self.stand(at.poll.add_exclusive(&self.socket, at.data));
        }
    }

    /// What came of making the entry of `place`, which the caller has locked. One that could not be deleted is still there.
    fn stand(&self, made: Sys<()>) {
        let within = made.is_ok() || made == Err(Errno::EEXIST);
        self.fallen.store(!within, Ordering::SeqCst);
        self.within.store(within, Ordering::SeqCst);
    }

    /// Waits in `poll` from here on, and nowhere else; at the end of the line. `data`: what that is to tell. An error: it waits where it
    /// did.
    pub(super) fn enter(&self, poll: Arc<Poll>, data: u64) -> Sys<()> {
        let mut place = lock(&self.place);
        if self.waits_for_begin() {
            *place = Some(Place { poll, data });
            return Ok(());
        }
        if let Some(old) = &*place {
            old.poll.remove(&self.socket);
        }
        if let Err(errno) = poll.add_exclusive(&self.socket, data) {
            if let Some(old) = &*place {
                self.stand(old.poll.add_exclusive(&self.socket, old.data));
            }
            return Err(errno);
        }
        *place = Some(Place { poll, data });
        self.stand(Ok(()));
        Ok(())
    }

    /// Waits no more.
    pub(super) fn leave(&self) {
        let mut place = lock(&self.place);
        if let Some(old) = place.take() {
            old.poll.remove(&self.socket);
        }
        self.within.store(false, Ordering::SeqCst);
        self.fallen.store(false, Ordering::SeqCst);
    }

    /// How turns are kept even.
    pub(super) fn part(&self) -> Option<&Part> {
        self.part.as_ref()
    }

    /// A connection was accepted. Whoever has had its part by that goes to the end.
    pub(super) fn took(&self) {
        if self.part.as_ref().is_some_and(|part| part.took(1)) {
            self.go_behind();
        }
    }

    /// Descriptors or memory are short here. This worker may have been the only one to be woken, so it wakes the others.
    pub(super) fn is_short(&self) {
        self.go_behind();
        if self.is_within() {
            socket::rouse(self.socket());
        }
    }

    fn go_behind(&self) {
        if self.part.is_none() {
            return;
        }
        // Another thread that is at it does the same.
        let place = match self.place.try_lock() {
            Ok(place) => place,
            Err(TryLockError::Poisoned(place)) => place.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        let Some(at) = place.as_ref().filter(|_| self.is_within()) else { return };
        // An entry that is deleted takes a wake-up for another thread with it, and one that is added looks whether somebody waits.
        at.poll.remove(&self.socket);
        let add = || at.poll.add_exclusive(&self.socket, at.data);
        self.stand(add().or_else(|_| add()));
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::time::Duration;

    use super::*;
    use crate::tally::Tally;

    fn ready(poll: &Poll) -> Vec<u64> {
        poll.wait(Some(Duration::ZERO)).unwrap().tokens().collect()
    }

    #[test]
    fn one_entry_is_there_whatever_happens() {
        let directory = std::env::temp_dir().join(format!("cluster-line-{}", std::process::id()));
        let _ = std::fs::remove_file(&directory);
        let listening = UnixListener::bind(&directory).unwrap();
        let mut tally = Tally::new().unwrap();
        tally.share_among(1);
        let line = Line::new(listening.as_fd().try_clone_to_owned().unwrap(), Some(tally.own_part().unwrap()), false);
        let (first, second) = (Arc::new(Poll::new().unwrap()), Arc::new(Poll::new().unwrap()));
        let _client = UnixStream::connect(&directory).unwrap();
        assert!(!line.is_within());
        line.took();
        assert_eq!((ready(&first), ready(&second)), (vec![], vec![]));
        line.enter(Arc::clone(&first), 7).unwrap();
        for _ in 0..5 {
            assert!(line.is_within());
            assert_eq!(ready(&first), [7]);
            line.took();
        }
        line.enter(Arc::clone(&second), 8).unwrap();
        assert_eq!((ready(&first), ready(&second)), (vec![], vec![8]));
        line.enter(Arc::clone(&second), 9).unwrap();
        assert_eq!(ready(&second), [9]);
        line.leave();
        line.took();
        assert!(!line.is_within());
        assert_eq!(ready(&second), []);
        std::fs::remove_file(&directory).unwrap();
    }

    #[test]
    fn an_entry_that_could_not_be_deleted_is_a_place_in_the_line() {
        let (listening, _client) = UnixStream::pair().unwrap();
        let poll = Arc::new(Poll::new().unwrap());
        let line = Line::new(listening.into(), None, false);
        line.enter(Arc::clone(&poll), 7).unwrap();
        line.stand(Err(Errno::ENOSPC));
        assert!(line.has_fallen() && !line.is_within());
        line.come_back();
        assert!(line.is_within() && !line.has_fallen());
    }
}
