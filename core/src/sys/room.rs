//! Whether a descriptor is free for a connection that is about to be received, without asking the kernel each time.
//!
//! recvmsg(2) with a full descriptor table succeeds and loses what it brings. To ask takes two system calls. A worker that receives
//! many connections in a short time asks once for all of these, if its table is nowhere near its limit: what it receives has a number
//! in the lower half (the kernel gives the lowest that is free), and none of some numbers all over the upper half is in use, of which
//! there are hundreds. It asks again soon, because the program opens descriptors, too, and its limit may be lowered from outside.

use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::sync::atomic::{AtomicI32, AtomicI64, AtomicU32, Ordering};

use nix::sys::resource::{Resource, getrlimit};
use nix::time::{ClockId, clock_gettime};

use super::{Sys, descriptor};

/// For so many milliseconds an answer holds.
const HOLDS: i64 = 20;
/// So many receives in that time are many.
const MANY: u32 = 8;
/// With fewer descriptors than these every receive asks.
const LIMIT_LEAST: RawFd = 1024;
const PROBES: RawFd = 8;

/// What is known of this process's table.
#[derive(Default)]
pub(crate) struct Room {
    /// Until then, in milliseconds of the system's clock, there is room for many.
    plenty_until: AtomicI64,
    /// A number from here on says that there is not.
    half: AtomicI32,
    /// Since then so many have asked.
    since: AtomicI64,
    asked: AtomicU32,
}

impl Room {
    /// EMFILE if no descriptor is free. `any`: one that is open.
    pub(crate) fn ask(&self, any: BorrowedFd) -> Sys<()> {
        super::panics::point();
        let now = now();
        if now < self.plenty_until.load(Ordering::Relaxed) {
            return Ok(());
        }
        let free = descriptor::duplicate(any)?.as_raw_fd();
        if now >= self.since.load(Ordering::Relaxed) + HOLDS {
            self.since.store(now, Ordering::Relaxed);
            self.asked.store(0, Ordering::Relaxed);
        }
        if self.asked.fetch_add(1, Ordering::Relaxed) + 1 >= MANY
            && let Some(half) = upper_half_is_free()
            && free < half
        {
            self.half.store(half, Ordering::Relaxed);
            self.plenty_until.store(now + HOLDS, Ordering::Relaxed);
        }
        Ok(())
    }

    /// This was received.
    pub(crate) fn received(&self, number: RawFd) {
        if number >= self.half.load(Ordering::Relaxed) {
            self.plenty_until.store(0, Ordering::Relaxed);
        }
    }
}

/// Where the upper half of the numbers begins, if none of some of them is in use.
fn upper_half_is_free() -> Option<RawFd> {
    let limit = getrlimit(Resource::RLIMIT_NOFILE).ok()?.0;
    let limit = RawFd::try_from(limit).unwrap_or(RawFd::MAX);
    let half = limit / 2;
    let mut probed = (0..PROBES).map(|probe| limit - 1 - (limit - half - 1) / (PROBES - 1) * probe);
    (limit >= LIMIT_LEAST && !probed.any(descriptor::is_open)).then_some(half)
}

/// By a clock that is read without a system call. One that stands costs nothing but calls.
fn now() -> i64 {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |now| now.tv_sec() * 1000 + now.tv_nsec() / 1_000_000 + 1)
}

#[cfg(test)]
mod tests {
    use std::os::fd::{AsFd, OwnedFd};

    use nix::errno::Errno;

    use super::super::descriptor::{LimitedDescriptors, own_descriptors};
    use super::super::socket;
    use super::*;

    fn in_a_table_of_its_own(limit: u64, act: impl FnOnce(BorrowedFd) + Send + 'static) {
        let thread = std::thread::spawn(move || {
            own_descriptors();
            let limit = LimitedDescriptors::to(limit);
            let (one, _other) = socket::packet_pair().unwrap();
            act(one.as_fd());
            drop(limit);
        });
        thread.join().unwrap();
    }

    fn knows_plenty(room: &Room) -> bool {
        now() < room.plenty_until.load(Ordering::Relaxed)
    }

    /// As often as it takes on a busy machine.
    fn ask_until_known(room: &Room, any: BorrowedFd) -> bool {
        (0..10_000).any(|_| room.ask(any).is_ok() && knows_plenty(room))
    }

    #[test]
    fn many_receives_ask_once_until_what_they_bring_comes_near_the_end() {
        in_a_table_of_its_own(2048, |any| {
            let room = Room::default();
            assert!(!(0..MANY - 1).any(|_| room.ask(any).is_err() || knows_plenty(&room)));
            assert!(ask_until_known(&room, any));
            room.received(40);
            assert!(room.plenty_until.load(Ordering::Relaxed) > 0);
            room.received(1024);
            assert_eq!(room.plenty_until.load(Ordering::Relaxed), 0);
            let full: Vec<OwnedFd> = std::iter::from_fn(|| descriptor::duplicate(any).ok()).collect();
            assert!((0..100).all(|_| room.ask(any) == Err(Errno::EMFILE)));
            drop(full);
        });
    }

    #[test]
    fn where_few_are_free_or_there_are_few_every_receive_asks() {
        in_a_table_of_its_own(512, |any| {
            let room = Room::default();
            assert!(!(0..100).any(|_| room.ask(any).is_err() || knows_plenty(&room)));
        });
        in_a_table_of_its_own(1024, |any| {
            let room = Room::default();
            let mut full: Vec<OwnedFd> = std::iter::from_fn(|| descriptor::duplicate(any).ok()).collect();
            // What is received next has a low number, and is the last.
            full.remove(3);
            assert!(!(0..100).any(|_| room.ask(any).is_err() || knows_plenty(&room)));
        });
    }
}
