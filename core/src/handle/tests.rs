//! An address with members whose workers are this test: it takes what it wants from a mailbox, and leaves the rest.

mod closing;
mod kernel;
mod leaving;
mod line;
mod pace;
mod proving;
mod rotation;

use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Handle, Member, Pumped};
use crate::mailbox::Mailbox;
use crate::mechanism::{LOOK, Look, PART_OF_RUNNING, Passed, Pulse, Route};
use crate::policy::Policy;
use crate::sys::poll::Poll;
use crate::sys::process::ProcessorTime;
use crate::sys::sockaddr::SockAddr;
use crate::sys::{cmsg, descriptor, sockaddr, socket};
use crate::wire::{PARCEL_MAX, Parcel};

/// Nothing is known of any worker but what its queues show.
struct Silent;

impl Pulse for Silent {
    fn sign_of_life(&self, _worker: u32) -> Option<u64> {
        None
    }

    fn processor_time(&self, _worker: u32) -> Option<ProcessorTime> {
        None
    }
}

const WINDOW: u32 = 4;
const WINDOW_MOST: u32 = 8;

struct Site {
    poll: Poll,
    handle: Handle,
    at: SocketAddr,
    /// By listener, which is the worker and the slot, too: the worker's end of the mailbox.
    workers: Vec<OwnedFd>,
    clients: Vec<TcpStream>,
}

impl Site {
    fn new(policy: Policy, members: u32) -> Self {
        let listening = socket::open(libc::AF_INET, false).unwrap();
        socket::bind(listening.as_fd(), &"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
        socket::listen(listening.as_fd(), 511).unwrap();
        let name = sockaddr::local_name(listening.as_fd()).unwrap();
        Self::of(name, Box::new(Passed::new(listening)), policy, members)
    }

    fn of(name: SockAddr, mechanism: Box<dyn Route>, policy: Policy, members: u32) -> Self {
        let mut handle = Handle::new(1, "key".into(), "address".into(), name, false, mechanism, None);
        handle.choose_by(policy, 7);
        let poll = Poll::new().unwrap();
        handle.register(&poll).unwrap();
        let at = name.to_inet().unwrap();
        let mut site = Self { poll, handle, at, workers: Vec::new(), clients: Vec::new() };
        (0..members).for_each(|number| site.join(number));
        site
    }

    fn join(&mut self, number: u32) {
        let mailbox = Mailbox::new(WINDOW, Arc::default()).unwrap();
        self.workers.push(descriptor::duplicate(mailbox.receiver()).unwrap());
        let member = Member::new(number, number, number, mailbox, WINDOW_MOST);
        self.handle.join(member, true, &self.poll).unwrap().unwrap();
    }

    /// So many clients come; their ports.
    fn clients(&mut self, count: usize) -> Vec<u16> {
        let clients: Vec<TcpStream> = (0..count).map(|_| TcpStream::connect(self.at).unwrap()).collect();
        let ports = clients.iter().map(|client| client.local_addr().unwrap().port()).collect();
        self.clients.extend(clients);
        ports
    }

    /// Turns until nothing more moves.
    fn pump(&mut self) {
        for _ in 0..100 {
            self.handle.announced(Instant::now());
            if self.handle.pump(&self.poll, Instant::now()) == Pumped::Done {
                return;
            }
        }
        panic!("it never comes to an end");
    }

    /// The clients that a worker takes, up to so many parcels, by their ports.
    fn takes(&mut self, number: u32, most: usize) -> Vec<u16> {
        let worker = self.workers[number as usize].as_fd();
        let mut ports = Vec::new();
        for _ in 0..most {
            let mut buffer = [0; PARCEL_MAX];
            let Ok(received) = cmsg::receive(worker, &mut buffer, 1, libc::MSG_CMSG_CLOEXEC) else { break };
            if let Ok(Parcel::Connection(peer)) = Parcel::decode(&buffer[..received.length]) {
                ports.push(peer.to_inet().unwrap().port());
            }
        }
        self.handle.mailbox_changed(number, &self.poll);
        ports
    }

    fn takes_all(&mut self, number: u32) -> Vec<u16> {
        self.takes(number, usize::MAX)
    }

    fn member(&mut self, number: u32) -> &mut Member {
        self.handle.members.iter_mut().find(|member| member.listener == number).unwrap()
    }

    /// One look of the watch, in time.
    fn look(&mut self) {
        let look = Look {
            poll: &self.poll,
            interval: LOOK,
            elapsed: LOOK,
            in_time: true,
            patience: Duration::from_millis(60),
            part_of_running: PART_OF_RUNNING,
            calm: false,
            slack: 2,
            workers: &Silent,
        };
        self.handle.watch(&look, Instant::now());
    }

    /// Looks until a member has lost its turn; how many it took.
    fn looks_until_stuck(&mut self, number: u32) -> u32 {
        for looks in 1..100 {
            self.look();
            if !self.member(number).has_turn() {
                return looks;
            }
        }
        panic!("worker {number} is not found stuck");
    }
}

fn sorted(mut ports: Vec<u16>) -> Vec<u16> {
    ports.sort_unstable();
    ports
}

#[test]
fn whoever_has_waited_longest_is_served_first() {
    let mut site = Site::new(Policy::RoundRobin, 1);
    let ports = site.clients(3);
    site.pump();
    // Its worker is gone; another comes when more clients have.
    site.handle.leave(0, &site.poll);
    let late = site.clients(1);
    site.join(1);
    site.pump();
    assert_eq!(site.takes_all(1), [ports, late].concat());
    assert_eq!(site.handle.stats().reclaimed, 3);
    assert_eq!(site.handle.stats().accepted, 4, "each once");
}

#[test]
fn whom_the_primary_could_not_send_comes_before_those_who_came_later() {
    let mut site = Site::new(Policy::RoundRobin, 1);
    let ports = site.clients(2);
    site.pump();
    while let Ok(Some(connection)) = site.member(0).mailbox.take_back() {
        site.handle.put_back(connection);
    }
    assert_eq!(site.handle.unserved(), 2);
    let late = site.clients(1);
    site.pump();
    assert_eq!(site.takes_all(0), [ports, late].concat());
    assert_eq!(site.handle.unserved(), 0);
}

#[test]
fn equal_loads_reach_every_slot() {
    let mut site = Site::new(Policy::LeastLoaded, 3);
    for round in 0..4 {
        // One at a time, and it is taken at once: all are equal each time.
        let mut got = [0; 3];
        for _ in 0..3 {
            site.clients(1);
            site.pump();
            for (number, count) in (0..).zip(&mut got) {
                *count += site.takes_all(number).len();
            }
            // What each was given of late would make up for a tie that always falls to the first.
            site.handle.members.iter_mut().for_each(|member| member.forget_load());
        }
        assert_eq!(got, [1, 1, 1], "round {round}");
    }
}

#[test]
fn a_member_that_is_full_gets_no_more_and_the_kernel_keeps_the_rest() {
    let mut site = Site::new(Policy::RoundRobin, 2);
    let ports = site.clients(3 * WINDOW as usize);
    site.pump();
    assert_eq!((site.member(0).waiting(), site.member(1).waiting()), (WINDOW, WINDOW));
    assert_eq!(site.handle.stats().accepted, 2 * u64::from(WINDOW));
    let mut taken = site.takes_all(0);
    site.pump();
    taken.extend(site.takes_all(0));
    taken.extend(site.takes_all(1));
    assert_eq!(sorted(taken), sorted(ports));
}

#[test]
fn a_stop_comes_behind_the_last_connection_and_nothing_after_it() {
    let mut site = Site::new(Policy::RoundRobin, 2);
    let ports = site.clients(4);
    site.pump();
    site.handle.stop_member(0).unwrap();
    let late = site.clients(2);
    site.pump();
    let worker = descriptor::duplicate(site.workers[0].as_fd()).unwrap();
    let mut parcels = Vec::new();
    let mut buffer = [0; PARCEL_MAX];
    while let Ok(received) = cmsg::receive(worker.as_fd(), &mut buffer, 1, libc::MSG_CMSG_CLOEXEC) {
        parcels.push(Parcel::decode(&buffer[..received.length]).unwrap());
    }
    let own: Vec<u16> = parcels
        .iter()
        .filter_map(|parcel| match parcel {
            Parcel::Connection(peer) => Some(peer.to_inet().unwrap().port()),
            _ => None,
        })
        .collect();
    assert!(matches!(parcels.last(), Some(Parcel::Stop)));
    assert_eq!(parcels.len(), own.len() + 1, "one stop");
    assert_eq!(sorted([own, site.takes_all(1)].concat()), sorted([ports, late].concat()));
}

#[test]
fn clients_of_one_address_go_to_one_member_and_wait_for_it() {
    let mut site = Site::new(Policy::SourceHash, 3);
    let ports = site.clients(WINDOW as usize + 3);
    site.pump();
    let waiting: Vec<u32> = (0..3).map(|number| site.handle.waiting_for(number)).collect();
    let owner = waiting.iter().position(|waiting| *waiting > 0).unwrap() as u32;
    assert_eq!(waiting.iter().sum::<u32>(), waiting[owner as usize]);
    assert_eq!(waiting[owner as usize], WINDOW + 3, "those that are held for it are counted with it");
    let mut taken = site.takes_all(owner);
    site.pump();
    taken.extend(site.takes_all(owner));
    assert_eq!(taken, ports, "in order");
    // What is held for one that leaves goes to another.
    let ports = site.clients(WINDOW as usize + 3);
    site.pump();
    site.handle.leave(owner, &site.poll);
    let mut taken = Vec::new();
    for _ in 0..4 {
        site.pump();
        for number in (0..3).filter(|number| *number != owner) {
            taken.extend(site.takes_all(number));
        }
    }
    assert_eq!(sorted(taken), sorted(ports));
}

#[test]
fn a_mailbox_whose_worker_shut_it_down_is_emptied_for_the_others() {
    let mut site = Site::new(Policy::RoundRobin, 2);
    let ports = site.clients(2);
    site.pump();
    let taken = site.takes_all(1);
    socket::finish_receiving(site.workers[0].as_fd());
    let late = site.clients(4);
    site.pump();
    let taken = [taken, site.takes_all(1)].concat();
    assert!(late.iter().all(|port| taken.contains(port)), "nothing is lost to a mailbox that is closed");
    assert!(ports.iter().filter(|port| taken.contains(port)).count() >= 1);
    assert!(!site.member(0).can_be_sent());
    for mut client in site.clients.drain(..) {
        client.set_nonblocking(true).unwrap();
        // Nobody was reset.
        let outcome = client.read(&mut [0; 1]);
        assert!(outcome.is_ok() || outcome.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock));
    }
}
