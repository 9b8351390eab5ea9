//! What a worker can do to the primary by words alone, found here or looked for because of what was.

use std::os::fd::AsFd;
use std::time::Duration;

use super::alone;
use super::puppet::{Puppet, Read, open_descriptors};
use crate::primary::{Event, Primary, Wanted};
use crate::settings::{Mechanism, Settings};
use crate::wire::FromWorker;

fn rig() -> (Primary, Puppet) {
    let settings = Settings { mechanism: Mechanism::Passed, ..Settings::default() };
    let mut primary = Primary::new(settings).unwrap();
    let puppet = Puppet::enroll(&mut primary).unwrap();
    puppet.say(puppet.greeting()).unwrap();
    (primary, puppet)
}

fn turn(primary: &mut Primary) -> Vec<Event> {
    primary.turn(Some(Duration::ZERO)).unwrap()
}

#[test]
fn grants_that_nobody_reads_cost_few_descriptors() {
    alone(|| {
        let (mut primary, mut puppet) = rig();
        let before = open_descriptors();
        // It cannot know the number of a listener whose grant it has not read, but can guess: they count from 1.
        for listener in 1..2000 {
            if puppet.ask("unix:@libcluster-unread-grants", 0, 0).is_err()
                || puppet.say(FromWorker::Close { listener }).is_err()
            {
                break;
            }
            turn(&mut primary);
        }
        let most = open_descriptors();
        assert!(most < before + 200, "{} descriptors more", most - before);
    });
}

#[test]
fn whoever_reads_in_time_may_have_many_listens_unanswered() {
    alone(|| {
        let (mut primary, mut puppet) = rig();
        for index in 1..=64 {
            puppet.ask("127.0.0.1:0", index, 0).unwrap();
        }
        // A few are read in each turn, since to open an address takes its time, and then others have theirs.
        for _ in 0..100 {
            primary.turn(Some(Duration::from_millis(20))).unwrap();
            if crate::sys::socket::unread_by_peer(puppet.channel.as_ref().unwrap().as_fd()) == Ok(0) {
                break;
            }
        }
        let granted = std::iter::from_fn(|| match puppet.read() {
            Read::Granted { listener, .. } => Some(listener),
            _ => None,
        });
        assert_eq!(granted.count(), 64);
    });
}

#[test]
fn what_a_worker_said_of_a_share_before_it_was_closed_is_no_offence() {
    let (mut primary, mut puppet) = rig();
    turn(&mut primary);
    let wanted =
        Wanted { address: "127.0.0.1:0", index: 1, backlog: 0, flags: Default::default(), pad_abstract: false };
    let granted = primary.grant(puppet.id, wanted).unwrap();
    assert!(matches!(puppet.read(), Read::Granted { listener, .. } if listener == granted.listener));
    // As many as its channel holds, of which the primary reads 64 in a turn.
    for _ in 0..100 {
        puppet.say(FromWorker::Pause { listener: granted.listener }).unwrap();
    }
    primary.close_share(puppet.id, granted.listener);
    turn(&mut primary);
    turn(&mut primary);
    assert!(primary.speaks_with(puppet.id));
}
