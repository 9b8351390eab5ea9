//! What a program brings about between two turns of its primary wakes whoever runs that; what a worker brings about costs it.

use std::time::{Duration, Instant};

use nix::sys::socket::sockopt;

use super::alone;
use super::puppet::{Puppet, Read, Taken, connect};
use crate::bind::ListenFlags;
use crate::policy::Policy;
use crate::primary::{Event, Primary, Wanted};
use crate::settings::{Mechanism, Settings};
use crate::sys::cmsg;
use crate::wire::FromWorker;

const AWHILE: Duration = Duration::from_secs(5);

fn primary(settings: Settings) -> Primary {
    Primary::new(Settings { mechanism: Mechanism::Passed, ..settings }).unwrap()
}

/// As a thread that runs the primary: sleeps until something is announced. False if nothing is, in this time.
fn turn(primary: &mut Primary, timeout: Duration) -> bool {
    let ready = primary.poller().wait(Some(timeout)).unwrap();
    if ready.is_empty() {
        return false;
    }
    primary.dispatch(&ready);
    true
}

fn settle(primary: &mut Primary) {
    while turn(primary, Duration::from_millis(30)) {}
}

fn at(address: &str) -> Wanted<'_> {
    Wanted { address, index: 1, backlog: 0, flags: ListenFlags::default(), pad_abstract: false }
}

fn worker(primary: &mut Primary) -> Puppet {
    let puppet = Puppet::enroll(primary).unwrap();
    puppet.say(puppet.greeting()).unwrap();
    settle(primary);
    puppet
}

fn granted(primary: &mut Primary, puppet: &mut Puppet, address: &str) -> u32 {
    let granted = primary.grant(puppet.id, at(address)).unwrap();
    settle(primary);
    assert!(matches!(puppet.read(), Read::Granted { .. }));
    granted.listener
}

/// The primary runs only when something wakes it, and the connection arrives all the same.
fn expect_connection(primary: &mut Primary, puppet: &Puppet) {
    let deadline = Instant::now() + AWHILE;
    while !matches!(puppet.shares[0].take(), Taken::Connection(_)) {
        let left = deadline.saturating_duration_since(Instant::now());
        assert!(turn(primary, left), "nobody was woken");
    }
}

#[test]
fn a_close_that_a_close_share_reads_moves_what_waits() {
    alone(|| {
        let mut primary = primary(Settings::default());
        let (mut one, mut two) = (worker(&mut primary), worker(&mut primary));
        let listener = granted(&mut primary, &mut one, "127.0.0.1:0");
        granted(&mut primary, &mut two, "127.0.0.1:0");
        let _client = connect(&one.shares[0].name).unwrap();
        assert!(turn(&mut primary, AWHILE));
        // The worker's own frame is read by the program's word about the same.
        one.say(FromWorker::Close { listener }).unwrap();
        primary.close_share(one.id, listener);
        expect_connection(&mut primary, &two);
    });
}

#[test]
fn a_resume_that_a_refused_grant_reads_counts() {
    alone(|| {
        let mut primary = primary(Settings::default());
        let mut one = worker(&mut primary);
        let listener = granted(&mut primary, &mut one, "127.0.0.1:0");
        one.say(FromWorker::Pause { listener }).unwrap();
        settle(&mut primary);
        let _client = connect(&one.shares[0].name).unwrap();
        settle(&mut primary);
        one.say(FromWorker::Resume { listener }).unwrap();
        assert!(primary.grant(one.id, at("192.0.2.1:1")).is_err(), "an address of somebody else");
        expect_connection(&mut primary, &one);
    });
}

#[test]
fn a_message_that_waits_for_room_is_flushed_whoever_sent_it() {
    alone(|| {
        let mut primary = primary(Settings::default());
        let mut one = worker(&mut primary);
        let (data, mut sent) = (vec![0; 60_000], 0);
        while primary.send(one.id, &data).is_ok() {
            sent += 1;
        }
        let deadline = Instant::now() + AWHILE;
        while sent > 0 {
            while one.listen_to() {
                sent -= 1;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(sent == 0 || turn(&mut primary, left), "{sent} were left");
        }
    });
}

#[test]
fn an_address_is_kept_from_its_last_leave_on() {
    alone(|| {
        let keep = Duration::from_millis(600);
        let mut primary = primary(Settings { keep_unattended: keep, ..Settings::default() });
        let mut one = worker(&mut primary);
        granted(&mut primary, &mut one, "127.0.0.1:0");
        let first = Instant::now();
        primary.enrolled_ended(one.id, false);
        settle(&mut primary);
        let mut two = worker(&mut primary);
        granted(&mut primary, &mut two, "127.0.0.1:0");
        while first.elapsed() < keep * 9 / 10 {
            turn(&mut primary, Duration::from_millis(10));
        }
        let second = Instant::now();
        primary.enrolled_ended(two.id, false);
        while !primary.handles().is_empty() {
            turn(&mut primary, Duration::from_millis(10));
            assert!(second.elapsed() < AWHILE, "it is given up one day");
        }
        assert!(second.elapsed() >= keep, "kept {:?} of {keep:?}", second.elapsed());
    });
}

/// A worker receives what waits for it and leaves it there, says that its last close is to wait for the client (SO_LINGER), gives the
/// client more than it takes, and closes its own copy.
fn make_linger(puppet: &Puppet) {
    use std::os::fd::{AsFd, AsRawFd};
    let mut received =
        cmsg::receive(puppet.shares[0].mailbox.as_fd(), &mut [0; 256], 1, libc::MSG_PEEK | libc::MSG_CMSG_CLOEXEC)
            .unwrap();
    let connection = received.take_fd(0).expect("a connection");
    let long = libc::linger { l_onoff: 1, l_linger: 20 };
    nix::sys::socket::setsockopt(&connection, sockopt::Linger, &long).unwrap();
    let (fd, much) = (connection.as_raw_fd(), vec![0; 1 << 20]);
    while nix::sys::socket::send(fd, &much, nix::sys::socket::MsgFlags::MSG_DONTWAIT).is_ok() {}
}

#[test]
fn what_a_worker_made_linger_lingers_for_nobody_else() {
    alone(|| {
        let mut primary = primary(Settings::default());
        let (mut one, mut two) = (worker(&mut primary), worker(&mut primary));
        let listener = granted(&mut primary, &mut one, "127.0.0.1:0");
        granted(&mut primary, &mut two, "127.0.0.1:0");
        let client = connect(&one.shares[0].name).unwrap();
        // Not until nothing happens: the watch looks at what waits.
        assert!(turn(&mut primary, AWHILE));
        make_linger(&one);
        // It is taken back and passed to another worker.
        one.say(FromWorker::Pause { listener }).unwrap();
        let deadline = Instant::now() + AWHILE;
        let passed = loop {
            if let Taken::Connection(passed) = two.shares[0].take() {
                break passed;
            }
            assert!(turn(&mut primary, deadline.saturating_duration_since(Instant::now())), "nobody was woken");
        };
        assert_eq!(nix::sys::socket::getsockopt(&passed, sockopt::Linger).unwrap().l_onoff, 0);
        drop((passed, client));
    });
}

#[test]
fn what_a_worker_made_linger_by_its_own_socket_lingers_for_nobody_else() {
    alone(|| {
        let mut primary = Primary::new(Settings::default()).unwrap();
        let (mut one, mut two) = (worker(&mut primary), worker(&mut primary));
        let listener = granted(&mut primary, &mut one, "127.0.0.1:0");
        granted(&mut primary, &mut two, "127.0.0.1:0");
        let (Some(own), Some(_)) = (&one.shares[0].socket, &two.shares[0].socket) else {
            eprintln!("skipped: this process may not use bpf(2)");
            return;
        };
        // What is accepted from it has this from the first moment.
        nix::sys::socket::setsockopt(own, sockopt::Linger, &libc::linger { l_onoff: 1, l_linger: 20 }).unwrap();
        let _clients: Vec<_> = (0..16).map(|_| connect(&one.shares[0].name).unwrap()).collect();
        one.say(FromWorker::Pause { listener }).unwrap();
        let (mut lingers, deadline) = (Vec::new(), Instant::now() + AWHILE);
        while lingers.is_empty() {
            assert!(turn(&mut primary, deadline.saturating_duration_since(Instant::now())), "nobody was woken");
            while let Taken::Connection(passed) = two.shares[0].take() {
                lingers.push(nix::sys::socket::getsockopt(&passed, sockopt::Linger).unwrap().l_onoff);
            }
        }
        assert!(lingers.iter().all(|on| *on == 0), "{lingers:?}");
    });
}

/// Turns until a flood of frames behind which a message stands is read.
fn turns_for(policy: Policy, flood: impl Fn(u32, u32) -> FromWorker<'static>) -> usize {
    let mut primary = primary(Settings { policy, ..Settings::default() });
    let mut one = worker(&mut primary);
    let listener = granted(&mut primary, &mut one, "127.0.0.1:0");
    primary.take_events();
    for number in 0..64 {
        one.say(flood(number, listener)).unwrap();
    }
    one.say(FromWorker::Message(b"behind it")).unwrap();
    let mut turns = 0;
    loop {
        assert!(turn(&mut primary, AWHILE));
        turns += 1;
        if primary.take_events().iter().any(|event| matches!(event, Event::Message { .. })) {
            return turns;
        }
    }
}

#[test]
fn what_writes_a_table_anew_is_charged() {
    alone(|| {
        let pauses = |number: u32, listener: u32| match number % 2 {
            0 => FromWorker::Pause { listener },
            _ => FromWorker::Resume { listener },
        };
        let unseats = |_: u32, listener: u32| FromWorker::Unseat { listener };
        // 64 frames of one unit are four turns of 16, and of eight units 32.
        assert!(turns_for(Policy::RoundRobin, pauses) < 16);
        assert!(turns_for(Policy::SourceHash, pauses) >= 32);
        assert!(turns_for(Policy::SourceHash, unseats) >= 32);
        assert!(turns_for(Policy::SourceHash, |number, _| FromWorker::Load(number)) < 16);
    });
}

#[test]
fn joins_leave_room_for_workers_to_be_replaced() {
    alone(|| {
        let limit = crate::sys::descriptor::LimitedDescriptors::to(160);
        let mut primary = primary(Settings::default());
        let mut puppets = vec![worker(&mut primary), worker(&mut primary), worker(&mut primary)];
        // Everybody listens wherever he may, also where the address is open already, and the first closes some again.
        let mut refused = 0;
        for index in 1..64 {
            for puppet in &mut puppets {
                match primary.grant(puppet.id, Wanted { index, ..at("127.0.0.1:0") }) {
                    Ok(_) => {}
                    Err(error) => refused += usize::from(error.code() == -libc::EMFILE),
                }
                settle_quickly(&mut primary);
                // The worker's ends are another process's.
                while !matches!(puppet.read(), Read::Nothing) {}
                puppet.shares.clear();
            }
        }
        assert!(refused > 0, "the limit was not met");
        // Ten descriptors a worker, and each has some listeners.
        puppets.push(Puppet::enroll(&mut primary).expect("a place for one more"));
        puppets.push(Puppet::enroll(&mut primary).expect("and another"));
        drop(limit);
    });
}

fn settle_quickly(primary: &mut Primary) {
    while turn(primary, Duration::ZERO) {}
}
