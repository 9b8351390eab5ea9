//! A member that has just taken another's place, and whose worker does something else first.

use std::os::fd::AsFd;
use std::sync::Arc;

use super::{Site, WINDOW, WINDOW_MOST, sorted};
use crate::handle::Member;
use crate::mailbox::Mailbox;
use crate::policy::Policy;
use crate::sys::{cmsg, descriptor};
use crate::wire::{PARCEL_MAX, Parcel};

impl Site {
    /// Another member is to take a place.
    fn prove(&mut self, number: u32, slot: u32) {
        let mailbox = Mailbox::new(WINDOW, Arc::default()).unwrap();
        self.workers.push(descriptor::duplicate(mailbox.receiver()).unwrap());
        let mut member = Member::new(number, number, slot, mailbox, WINDOW_MOST);
        member.prove_first();
        self.handle.join(member, true, &self.poll).unwrap().unwrap();
    }

    /// It has the place from here on, and whoever had it has left.
    fn take_place(&mut self, number: u32, of: u32) {
        self.handle.take_place(number, &self.poll);
        self.handle.leave(of, &self.poll);
    }

    /// What is in a worker's mailbox, of which it takes nothing else: how often it is told to begin.
    fn begins(&self, number: u32) -> usize {
        let worker = self.workers[number as usize].as_fd();
        let mut buffer = [0; PARCEL_MAX];
        let parcels = std::iter::from_fn(|| {
            let received = cmsg::receive(worker, &mut buffer, 1, libc::MSG_CMSG_CLOEXEC).ok()?;
            Some(matches!(Parcel::decode(&buffer[..received.length]), Ok(Parcel::Begin)))
        });
        parcels.filter(|begin| *begin).count()
    }
}

#[test]
fn one_that_stands_still_at_first_is_told_to_begin_all_the_same() {
    let mut site = Site::new(Policy::RoundRobin, 2);
    site.prove(2, 0);
    site.take_place(2, 0);
    let ports = site.clients(4);
    site.pump();
    site.looks_until_stuck(2);
    // Those who waited there, as far as there is room for them.
    let mut served = Vec::new();
    for _ in 0..3 {
        site.pump();
        served.extend(site.takes_all(1));
    }
    assert_eq!(sorted(served), sorted(ports));
    assert_eq!(site.begins(2), 1);
    site.handle.mailbox_changed(2, &site.poll);
    assert!(site.member(2).has_turn(), "it is back");
}

#[test]
fn one_in_front_of_which_nobody_waits_is_left_alone() {
    let mut site = Site::new(Policy::RoundRobin, 1);
    site.prove(1, 0);
    site.take_place(1, 0);
    site.pump();
    assert!(site.handle.has_waiting(), "it is looked at for a while");
    site.looks_until_stuck(1);
    site.pump();
    assert!(!site.handle.has_waiting());
    let ports = site.clients(1);
    assert_eq!(site.begins(1), 1);
    site.handle.mailbox_changed(1, &site.poll);
    site.pump();
    assert_eq!(site.takes_all(1), ports);
}

#[test]
fn one_that_could_not_be_told_to_begin_is_told_by_the_watch() {
    let mut site = Site::new(Policy::RoundRobin, 1);
    site.prove(1, 0);
    site.take_place(1, 0);
    assert_eq!(site.begins(1), 1);
    // As if the system had been short of something.
    site.member(1).mailbox.owe_begin();
    assert!(site.handle.has_waiting());
    site.look();
    assert_eq!(site.begins(1), 1);
    site.handle.mailbox_changed(1, &site.poll);
    assert!(!site.handle.has_waiting());
}
