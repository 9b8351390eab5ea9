//! Workers whose process the program starts, and which the engine replaces where the program says so.

use std::os::fd::IntoRawFd;
use std::time::{Duration, Instant};

use cluster_core::{Due, Error, Primary, ReloadOptions, Settings, Worker};

const PATIENCE: Duration = Duration::from_secs(20);

struct Cluster(Primary);

impl Cluster {
    fn new() -> Self {
        let mut primary = Primary::new(Settings::default()).unwrap();
        primary.replace_enrolled();
        Self(primary)
    }

    /// Nobody is due, however long one waits.
    fn nobody(&mut self) {
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(150) {
            self.0.turn(Some(Duration::from_millis(5))).unwrap();
            assert!(self.0.take_due_enrolled().is_none());
        }
    }

    fn next(&mut self) -> Due {
        let begun = Instant::now();
        loop {
            assert!(begun.elapsed() < PATIENCE, "nobody is due");
            self.0.turn(Some(Duration::from_millis(5))).unwrap();
            if let Some(due) = self.0.take_due_enrolled() {
                return due;
            }
        }
    }

    fn make(&mut self, due: Due) -> (u32, Worker) {
        let place = self.0.enroll_due(due).unwrap();
        let worker = Worker::adopt_enrolled(place.channel.into_raw_fd(), place.id, place.slot).unwrap().unwrap();
        (place.id, worker)
    }
}

#[test]
fn they_are_ordered_from_the_first_one_on_and_each_slot_gets_its_own_back() {
    let mut cluster = Cluster::new();
    cluster.0.scale(3).unwrap();
    let mut workers: Vec<(u32, Worker)> = Vec::new();
    for slot in 0..3 {
        let due = cluster.next();
        assert_eq!((due.slot(), due.generation(), due.is_beside()), (slot, 1, false));
        workers.push(cluster.make(due));
    }
    for slot in [1, 0] {
        let (id, _worker) = workers.remove(slot as usize);
        let delay = cluster.0.enrolled_is_followed(id, Duration::ZERO).expect("nobody is on the way");
        // It had not listened.
        assert!(delay >= Duration::from_millis(90), "{delay:?}");
        let due = cluster.next();
        assert_eq!((due.slot(), due.is_beside()), (slot, false));
        workers.insert(slot as usize, cluster.make(due));
    }
    // One whose program says that nobody follows leaves its slot empty.
    let (id, worker) = workers.remove(2);
    drop(worker);
    cluster.0.enrolled_ended(id, true);
    cluster.nobody();
    cluster.0.scale(3).unwrap();
    assert_eq!(cluster.next().slot(), 2);
}

#[test]
fn it_is_not_made_sooner_than_the_program_wants_and_not_at_all_after_the_end() {
    let mut cluster = Cluster::new();
    cluster.0.scale(1).unwrap();
    let due = cluster.next();
    let (id, worker) = cluster.make(due);
    drop(worker);
    let least = Duration::from_secs(3);
    let delay = cluster.0.enrolled_is_followed(id, least).unwrap();
    assert!(delay > least / 2 && delay <= least, "{delay:?}");
    cluster.0.replace_nobody();
    cluster.nobody();
    assert_eq!(cluster.0.reload(&ReloadOptions::default()).err().map(|error| error.code()), Some(-libc::ESHUTDOWN));
}

#[test]
fn one_that_could_not_be_made_is_ordered_again() {
    let mut cluster = Cluster::new();
    cluster.0.scale(1).unwrap();
    for _ in 0..2 {
        let due = cluster.next();
        let error = Error::new(-libc::EAGAIN, "no process");
        assert!(cluster.0.due_enrolled_failed(due, &error).is_some());
    }
    let due = cluster.next();
    // Its place is made, and its process could not be started.
    let (id, _worker) = cluster.make(due);
    assert!(cluster.0.enrolled_is_followed(id, Duration::ZERO).is_some());
    assert_eq!(cluster.next().slot(), 0);
}

#[test]
fn a_successor_that_fails_after_the_last_has_ended_costs_no_slot() {
    let mut cluster = Cluster::new();
    cluster.0.scale(1).unwrap();
    let due = cluster.next();
    let (old, old_worker) = cluster.make(due);
    cluster.0.reload(&ReloadOptions::default()).unwrap();
    let due = cluster.next();
    assert!(due.is_beside());
    let (new, new_worker) = cluster.make(due);
    drop(old_worker);
    assert_eq!(cluster.0.enrolled_is_followed(old, Duration::ZERO), None, "somebody is on the way");
    drop(new_worker);
    cluster.0.enrolled_is_followed(new, Duration::ZERO);
    let due = cluster.next();
    assert_eq!((due.slot(), due.generation(), due.is_beside()), (0, 1, false));
}
