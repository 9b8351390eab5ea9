//! The same with sockets of the members' own, where this process may use bpf(2).

use nix::errno::Errno;

use super::*;
use crate::address::Address;
use crate::bind::{ListenFlags, Shape, open};
use crate::mechanism::{Choice, Kernel, OwnSocket, Route, Selector, Turns};
use crate::options::SocketOption;
use crate::settings::MechanismKind;
use crate::sys::{Sys, descriptor, socket};

/// A site of the mechanism kernel. `None`, and so a test that passes without having looked, where the machine does not let us.
fn kernel_site(members: u32) -> Option<Site> {
    let selector = match Selector::load(Choice::InTurn) {
        Err(nix::errno::Errno::EPERM) => {
            eprintln!("skipped: this process may not use bpf(2)");
            return None;
        }
        prepared => prepared.unwrap(),
    };
    let shape = Shape::default();
    let bound = open(&Address::parse("127.0.0.1:0").unwrap(), None, &shape, ListenFlags::default()).unwrap();
    let Ok(kernel) = Kernel::new(Passed::new(bound.socket), bound.name, shape, selector) else {
        panic!("no SO_REUSEPORT")
    };
    Some(Site::of(bound.name, Box::new(kernel), Policy::RoundRobin, members))
}

impl Site {
    /// What a worker accepts from its own socket, up to so many, by the clients' ports.
    fn accepts(&mut self, number: u32, most: usize) -> Vec<u16> {
        let own = self.handle.member(number).unwrap().own_socket().unwrap();
        let accepted = std::iter::from_fn(|| socket::accept(own.socket(), 0).ok()).take(most);
        accepted.map(|(_, peer)| peer.to_inet().unwrap().port()).collect()
    }

    fn waits_at(&self, number: u32) -> Option<u32> {
        self.handle.member(number).unwrap().own_socket().unwrap().waiting()
    }
}

#[test]
fn who_falls_behind_has_half_the_turns_of_the_others() {
    let Some(mut site) = kernel_site(3) else { return };
    site.clients(9);
    assert_eq!([0, 1, 2].map(|number| site.accepts(number, 9).len()), [3, 3, 3]);
    site.clients(12);
    [1, 2].iter().for_each(|number| assert_eq!(site.accepts(*number, 9).len(), 4));
    for number in 0..3 {
        site.handle.own_socket_announced(number, &site.poll);
    }
    site.look();
    assert_eq!(
        [0, 1, 2].map(|number| site.member(number).own_socket().unwrap().turns()),
        [Turns::Half, Turns::All, Turns::All]
    );
    site.clients(20);
    assert_eq!([1, 2].map(|number| site.accepts(number, 20).len()), [8, 8], "each second turn of the first is theirs");
    assert_eq!(site.waits_at(0), Some(8));
}

#[test]
fn what_waits_in_the_socket_of_one_that_leaves_is_served_once_and_counted_once() {
    let Some(mut site) = kernel_site(2) else { return };
    let ports = site.clients(6);
    let mut taken = site.accepts(1, 6);
    taken.extend(site.accepts(0, 1));
    assert_eq!(site.handle.leave(0, &site.poll), 1, "what waits it has not taken");
    // Before its time is over the primary passes on what waits.
    site.pump();
    taken.extend(site.takes_all(1));
    assert_eq!(sorted(taken), sorted(ports));
    assert_eq!(site.handle.stats().accepted, 6);
    assert_eq!(site.handle.given_to(1), 5);
}

#[test]
fn what_the_kernel_moves_is_no_other_connection() {
    let Some(mut site) = kernel_site(2) else { return };
    let ports = site.clients(6);
    site.handle.retire_member(0);
    socket::stop_listening(site.member(0).own_socket().unwrap().socket());
    assert_eq!(site.waits_at(1), Some(6), "moved");
    assert_eq!(sorted(site.accepts(1, 9)), sorted(ports));
    assert_eq!(site.handle.stats().accepted, 6);
}

#[test]
fn one_that_gives_its_socket_up_is_served_by_its_mailbox() {
    let Some(mut site) = kernel_site(2) else { return };
    let ports = site.clients(6);
    let mut taken = site.accepts(0, 2);
    assert_eq!(site.handle.given_to(0), 3);
    site.handle.give_up_own_socket(0, &site.poll);
    assert_eq!(site.handle.given_to(0), 2, "what it had taken");
    site.pump();
    let own = site.takes_all(0);
    assert!(!own.is_empty(), "those that the kernel gives none come first");
    taken.extend(own);
    taken.extend(site.takes_all(1));
    taken.extend(site.accepts(1, 9));
    assert_eq!(sorted(taken), sorted(ports));
}

const DETACH_REUSEPORT_BPF: libc::c_int = 68;

/// Takes the program off the group of a member's socket, as any worker can.
fn detach(site: &mut Site, number: u32) {
    let socket = site.member(number).own_socket().unwrap().socket();
    crate::sys::bpf::set_int(socket, DETACH_REUSEPORT_BPF, 0).unwrap();
}

#[test]
fn the_program_is_put_back_where_a_worker_took_it_off() {
    let Some(mut site) = kernel_site(2) else { return };
    let turns = |site: &mut Site| {
        site.clients(20);
        [0, 1].map(|number| site.accepts(number, 20).len())
    };
    detach(&mut site, 1);
    site.handle.audit(&site.poll, Instant::now());
    assert_eq!(turns(&mut site), [10, 10], "by an audit");
    // With new turns; those who do not get any more of them give nothing to others by chance.
    detach(&mut site, 1);
    site.handle.retire_member(0);
    assert_eq!(turns(&mut site), [0, 20]);
}

#[test]
fn what_waits_goes_where_the_program_says_also_when_a_worker_took_it_off() {
    let Some(mut site) = kernel_site(3) else { return };
    let ports = site.clients(30);
    site.handle.retire_member(0);
    // After the last time that its turns were written.
    detach(&mut site, 1);
    site.member(0).own_socket_mut().unwrap().spoil();
    site.handle.leave(0, &site.poll);
    let moved = [1, 2].map(|number| site.waits_at(number).unwrap());
    assert_eq!(moved, [15, 15], "in turns");
    assert_eq!(sorted([site.accepts(1, 30), site.accepts(2, 30)].concat()), sorted(ports));
}

#[test]
fn a_program_that_serves_another_address_begins_anew() {
    let Some(mut site) = kernel_site(2) else { return };
    site.clients(5);
    for number in [0, 1] {
        site.accepts(number, 5);
        site.handle.leave(number, &site.poll);
    }
    let Site { handle, poll, .. } = site;
    let selector = handle.close(&poll).map(|selector| selector.renew()).unwrap();
    assert_eq!((selector.assigned(0), selector.assigned(1), selector.begun(1)), (0, 0, 0));
}

#[test]
fn only_a_slot_in_range_has_an_own_socket() {
    let Some(mut site) = kernel_site(1) else { return };
    // A slot beyond the program's table is served by its mailbox.
    let mailbox = Mailbox::new(WINDOW, Arc::default()).unwrap();
    site.workers.push(descriptor::duplicate(mailbox.receiver()).unwrap());
    site.handle.join(Member::new(1, 1, 1024, mailbox, WINDOW), true, &site.poll).unwrap().unwrap();
    assert!(site.member(1).own_socket().is_none());
    let ports = site.clients(4);
    site.pump();
    let taken = [site.accepts(0, 4), site.takes_all(1)];
    assert_eq!(taken.each_ref().map(Vec::len), [2, 2]);
    assert_eq!(sorted(taken.concat()), sorted(ports));
}

/// A mechanism that may bind no socket any more, as one whose program has given its privileges up. A slot has the one it had.
struct Bound(Option<OwnedFd>);

impl Route for Bound {
    fn kind(&self) -> MechanismKind {
        MechanismKind::Kernel
    }

    fn set_option(&mut self, _option: &SocketOption) -> Sys<usize> {
        Ok(0)
    }

    fn enter(&mut self, _slot: u32) -> Sys<Option<OwnSocket>> {
        self.0.take().map(|socket| Some(OwnSocket::new(socket, 0))).ok_or(Errno::EACCES)
    }

    fn shut(&mut self, _slot: u32, own: OwnSocket, keep: bool) {
        self.0 = keep.then(|| own.into_socket());
    }
}

#[test]
fn where_no_socket_can_be_bound_a_slot_has_its_old_one() {
    let old = socket::open(libc::AF_INET, false).unwrap();
    socket::listen(old.as_fd(), 8).unwrap();
    let name = sockaddr::local_name(old.as_fd()).unwrap();
    let mut site = Site::of(name, Box::new(Bound(Some(old))), Policy::RoundRobin, 1);
    assert!(site.member(0).own_socket().is_some());
    // At once, while the old socket goes on listening for those who are about to come.
    site.handle.leave(0, &site.poll);
    site.join(0);
    assert!(site.member(0).own_socket().is_some());
    // There is none for a second slot, which is served by its mailbox.
    let mailbox = Mailbox::new(WINDOW, Arc::default()).unwrap();
    let outcome = site.handle.join(Member::new(1, 1, 1, mailbox, WINDOW), true, &site.poll).unwrap();
    assert_eq!(outcome, Err(Errno::EACCES));
}
