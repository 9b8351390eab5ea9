//! What becomes of addresses and of those who wait, as workers come and go.

use std::time::{Duration, Instant};

use super::alone;
use super::puppet::{Puppet, Read, Taken, connect};
use crate::primary::{Event, Primary};
use crate::settings::{Mechanism, Settings};
use crate::wire::FromWorker;

fn primary(settings: Settings) -> Primary {
    Primary::new(Settings { mechanism: Mechanism::Passed, ..settings }).unwrap()
}

fn turns(primary: &mut Primary, count: usize) -> Vec<Event> {
    (0..count).flat_map(|_| primary.turn(Some(Duration::ZERO)).unwrap()).collect()
}

/// Turns until something is so, for 10 s at most.
fn until(primary: &mut Primary, what: &str, mut is: impl FnMut(&mut Primary) -> bool) {
    let begin = Instant::now();
    while !is(primary) {
        assert!(begin.elapsed() < Duration::from_secs(10), "not yet {what}");
        primary.turn(Some(Duration::from_millis(5))).unwrap();
    }
}

/// A worker with a share of an address.
fn listening(primary: &mut Primary, address: &str, index: u32) -> Puppet {
    let mut puppet = Puppet::enroll(primary).unwrap();
    puppet.say(puppet.greeting()).unwrap();
    puppet.ask(address, index, 0).unwrap();
    turns(primary, 4);
    assert!(matches!(puppet.read(), Read::Granted { .. }));
    puppet
}

#[test]
fn an_address_without_a_worker_is_kept_for_so_long() {
    alone(|| {
        let keep_unattended = Duration::from_millis(300);
        let mut primary = primary(Settings { keep_unattended, ..Settings::default() });
        let (one, other) = (listening(&mut primary, "127.0.0.1:0", 1), listening(&mut primary, "127.0.0.1:0", 2));
        assert_eq!(primary.open_keys().len(), 2);
        let left = Instant::now();
        primary.enrolled_ended(one.id, false);
        until(&mut primary, "closed", |primary| primary.open_keys().len() == 1);
        assert!(left.elapsed() >= keep_unattended);
        assert!(primary.speaks_with(other.id));
    });
}

#[test]
fn what_nobody_could_be_given_is_counted() {
    alone(|| {
        let mut primary = primary(Settings::default());
        // Another test run may be in the same network.
        let address = &format!("unix:@libcluster-lost-{}", std::process::id());
        for times in 1..=3 {
            let puppet = listening(&mut primary, address, 0);
            let name = puppet.shares[0].name;
            let clients = [0, 1].map(|_| connect(&name).unwrap());
            turns(&mut primary, 4);
            primary.enrolled_ended(puppet.id, false);
            assert_eq!(primary.open_keys().len(), 1, "kept for another");
            primary.give_up_all();
            drop((puppet, clients));
            let puppet = listening(&mut primary, address, 0);
            assert_eq!(primary.handles()[0].lost, 2 * times);
            primary.enrolled_ended(puppet.id, true);
            assert!(primary.open_keys().is_empty());
        }
    });
}

#[test]
fn who_stands_still_is_told_to_leave_after_half_of_the_time() {
    alone(|| {
        let mut primary = primary(Settings::default());
        let mut puppet = listening(&mut primary, "127.0.0.1:0", 1);
        let name = puppet.shares[0].name;
        let _client = connect(&name).unwrap();
        turns(&mut primary, 4);
        let (half, mut before) = (Duration::from_millis(250), Instant::now());
        for (deadline, within) in [(Duration::from_secs(60), Duration::from_secs(3)), (2 * half, half)] {
            before = Instant::now();
            primary.stop(deadline);
            let told_at = primary.told_at(puppet.id).unwrap();
            assert!(told_at >= before + within && told_at <= Instant::now() + within, "{deadline:?}");
        }
        until(&mut primary, "told", |_| matches!(puppet.read(), Read::Leave));
        assert!(before.elapsed() >= half, "somebody waits for it");
        // What waits for it is still its own.
        assert!(matches!(puppet.shares[0].take(), Taken::Connection(_)));
        assert!(matches!(puppet.shares[0].take(), Taken::Stop));
    });
}

#[test]
fn what_a_worker_said_last_is_heard() {
    alone(|| {
        let mut primary = primary(Settings::default());
        let puppet = listening(&mut primary, "127.0.0.1:0", 1);
        let other = listening(&mut primary, "127.0.0.1:0", 1);
        for number in 0..100_u8 {
            puppet.say(FromWorker::Message(&[number])).unwrap();
        }
        // As before a grant in its stead, of which it must not hear before what it did itself.
        let listener = puppet.shares[0].listener;
        puppet.say(FromWorker::Close { listener }).unwrap();
        let wanted = crate::primary::Wanted {
            address: "127.0.0.1:0",
            index: 1,
            backlog: 0,
            flags: Default::default(),
            pad_abstract: false,
        };
        let granted = primary.grant(puppet.id, wanted).unwrap();
        assert_ne!(granted.listener, listener);
        let heard: Vec<u8> = turns(&mut primary, 1)
            .into_iter()
            .filter_map(|event| match event {
                Event::Message { data, .. } => Some(data[0]),
                _ => None,
            })
            .collect();
        assert_eq!(heard, (0..100).collect::<Vec<u8>>());
        assert!(primary.speaks_with(other.id));
    });
}

#[test]
fn a_new_address_where_the_kernel_chooses_takes_more_of_the_allowance() {
    alone(|| {
        let mut primary = Primary::new(Settings::default()).unwrap();
        let mut puppet = Puppet::enroll(&mut primary).unwrap();
        puppet.say(puppet.greeting()).unwrap();
        let begin = Instant::now();
        let (opened, mut kernel) = (300_u32, 0);
        for index in 1..=opened {
            puppet.ask("127.0.0.1:0", index, 0).unwrap();
            let mut listener = 0;
            until(&mut primary, "granted", |_| match puppet.read() {
                Read::Granted { listener: granted, .. } => {
                    listener = granted;
                    true
                }
                _ => false,
            });
            kernel += u32::from(puppet.shares.last().is_some_and(|share| share.socket.is_some()));
            puppet.shares.clear();
            puppet.say(FromWorker::Close { listener }).unwrap();
        }
        if kernel < opened {
            eprintln!("skipped: this process may not use bpf(2)");
            return;
        }
        // 256 programs at once, and then one each 16 ms. (A busy machine may take longer anyway.)
        let least = f64::from(opened - 256 - 8) * 0.016;
        assert!(begin.elapsed().as_secs_f64() >= least, "{opened} addresses in {:?}", begin.elapsed());
    });
}

/// Takes everything that waits in its only share.
fn takes(puppet: &Puppet) -> usize {
    let share = &puppet.shares[0];
    std::iter::from_fn(|| match share.take() {
        Taken::Connection(connection) => Some(connection),
        _ => None,
    })
    .count()
}

#[test]
fn what_a_worker_took_of_a_share_that_it_closed_is_remembered() {
    alone(|| {
        let mut primary = primary(Settings::default());
        let puppet = listening(&mut primary, "127.0.0.1:0", 1);
        let name = puppet.shares[0].name;
        let _clients = [0, 1, 2].map(|_| connect(&name).unwrap());
        turns(&mut primary, 4);
        assert_eq!(takes(&puppet), 3);
        let info = primary.worker_info(puppet.id).unwrap();
        assert_eq!((info.delivered, info.waiting), (3, 0));
        puppet.say(FromWorker::Close { listener: puppet.shares[0].listener }).unwrap();
        turns(&mut primary, 2);
        assert_eq!(primary.worker_info(puppet.id).unwrap().delivered, 3);
        // It has served, whatever its page says; its life was not in vain.
        assert!(primary.enrolled_ended(puppet.id, false));
        let puppet = listening(&mut primary, "127.0.0.1:0", 1);
        puppet.say(FromWorker::Close { listener: puppet.shares[0].listener }).unwrap();
        turns(&mut primary, 2);
        assert!(!primary.enrolled_ended(puppet.id, false), "another had nobody to serve");
    });
}

#[test]
fn who_ends_in_order_gives_up_only_what_nobody_else_left() {
    alone(|| {
        let mut primary = primary(Settings::default());
        let (one, other) = (listening(&mut primary, "127.0.0.1:0", 1), listening(&mut primary, "127.0.0.1:0", 2));
        primary.enrolled_ended(one.id, false);
        primary.enrolled_ended(other.id, true);
        assert_eq!(primary.open_keys(), ["127.0.0.1:0#1"], "the first has a successor to come");
    });
}
