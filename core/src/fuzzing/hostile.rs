//! What a worker can do to the primary by words alone, found here or looked for because of what was.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use super::alone;
use super::puppet::{Puppet, Read, Taken, connect, open_descriptors};
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

#[test]
fn the_deadline_of_a_worker_that_is_gone_is_forgotten() {
    alone(|| {
        let (mut primary, first) = rig();
        turn(&mut primary);
        let before = primary.timers_left();
        for _ in 0..50 {
            let puppet = Puppet::enroll(&mut primary).unwrap();
            puppet.say(puppet.greeting()).unwrap();
            turn(&mut primary);
            // Its deadline is seconds away.
            primary.disconnect(puppet.id).unwrap();
            assert!(primary.timers_left() > before);
            primary.enrolled_ended(puppet.id, false);
        }
        assert!(primary.timers_left() <= before, "{} timers, {before} before", primary.timers_left());
        assert!(primary.speaks_with(first.id));
    });
}

#[test]
fn frames_in_a_second_are_no_more_than_the_allowance() {
    alone(|| {
        let (mut primary, puppet) = rig();
        turn(&mut primary);
        // Each costs 16 units.
        let frame = FromWorker::Message(&[7; 15 * 4096]).encode();
        let begin = Instant::now();
        let mut read = 0;
        // What is allowed at once, and half of that more. (A busy machine may be slower than the allowance, and then this sees nothing.)
        while read < 1536 {
            while puppet.send(&frame, &[]).is_ok() {}
            let heard = turn(&mut primary).iter().filter(|event| matches!(event, Event::Message { .. })).count();
            read += heard;
            if heard == 0 {
                primary.turn(Some(Duration::from_millis(20))).unwrap();
            }
            // A turn may have read one more than there was something for.
            let most = 16_384.0 + 64.0 + 16_000.0 * begin.elapsed().as_secs_f64();
            assert!((read * 16) as f64 <= most, "{read} frames in {:?}", begin.elapsed());
        }
    });
}

#[test]
fn what_waits_for_one_that_says_it_pauses_goes_to_the_others() {
    let (mut primary, first) = rig();
    let second = Puppet::enroll(&mut primary).unwrap();
    second.say(second.greeting()).unwrap();
    let mut both = [first, second];
    for puppet in &mut both {
        puppet.ask("127.0.0.1:0", 1, 0).unwrap();
        turn(&mut primary);
        assert!(matches!(puppet.read(), Read::Granted { .. }));
    }
    let taken = |puppet: &Puppet| {
        let share = &puppet.shares[0];
        std::iter::from_fn(|| match share.take() {
            Taken::Connection(connection) => Some(connection),
            _ => None,
        })
        .count()
    };
    let name = both[0].shares[0].name;
    let mut clients: Vec<_> = (0..4).map(|_| connect(&name).unwrap()).collect();
    for _ in 0..8 {
        turn(&mut primary);
    }
    let listener = both[0].shares[0].listener;
    both[0].say(FromWorker::Pause { listener }).unwrap();
    for _ in 0..8 {
        turn(&mut primary);
    }
    assert_eq!([taken(&both[0]), taken(&both[1])], [0, 4]);
    both[0].say(FromWorker::Resume { listener }).unwrap();
    turn(&mut primary);
    clients.extend((0..4).map(|_| connect(&name).unwrap()));
    for _ in 0..8 {
        turn(&mut primary);
    }
    assert_eq!([taken(&both[0]), taken(&both[1])], [2, 2]);
}

/// Two workers of one address, of which the first has so many connections.
fn serving(count: usize) -> (Primary, [Puppet; 2], Vec<OwnedFd>, Vec<OwnedFd>) {
    let settings = Settings { mechanism: Mechanism::Passed, ..Settings::default() };
    let mut primary = Primary::new(settings).unwrap();
    let mut both = [0, 1].map(|_| {
        let mut puppet = Puppet::enroll(&mut primary).unwrap();
        puppet.hands_back = true;
        puppet.say(puppet.greeting()).unwrap();
        puppet.ask("127.0.0.1:0", 1, 0).unwrap();
        turn(&mut primary);
        assert!(matches!(puppet.read(), Read::Granted { .. }));
        puppet
    });
    let name = both[0].shares[0].name;
    let clients: Vec<_> = (0..2 * count).map(|_| connect(&name).unwrap()).collect();
    for _ in 0..8 {
        turn(&mut primary);
    }
    let mut taken = both.each_mut().map(|puppet| all_of(puppet));
    assert_eq!(taken.each_ref().map(Vec::len), [count; 2]);
    (primary, both, std::mem::take(&mut taken[0]), clients)
}

fn all_of(puppet: &Puppet) -> Vec<OwnedFd> {
    let next = || match puppet.shares[0].take() {
        Taken::Connection(connection) => Some(connection),
        _ => None,
    };
    std::iter::from_fn(next).collect()
}

fn hand_back(puppet: &Puppet, connections: Vec<OwnedFd>) {
    let words = crate::wire::handback(puppet.shares[0].listener);
    for connection in connections {
        let returns = puppet.returns.as_ref().expect("where to hand back").as_fd();
        crate::sys::cmsg::send(returns, [&words, b""], &[connection.as_fd()]).unwrap();
    }
}

#[test]
fn what_a_worker_hands_back_is_anothers_also_what_is_unread_at_its_end() {
    for is_gone in [false, true] {
        alone(move || {
            let (mut primary, [mut first, second], taken, clients) = serving(4);
            first.say(FromWorker::Disconnect).unwrap();
            turn(&mut primary);
            assert!(matches!(first.read(), Read::Leave));
            hand_back(&first, taken);
            if is_gone {
                primary.enrolled_ended(first.id, true);
            }
            for _ in 0..8 {
                turn(&mut primary);
            }
            assert_eq!(all_of(&second).len(), 4);
            assert_eq!(primary.handles()[0].stats.handed_back, 4);
            drop(clients);
        });
    }
}

#[test]
fn nothing_is_taken_back_where_nobody_else_serves_or_all_leave() {
    alone(|| {
        let (mut primary, [mut first, mut second], _taken, _clients) = serving(1);
        primary.take_nothing_back();
        primary.retire(first.id);
        turn(&mut primary);
        assert!(matches!(first.read(), Read::Leave));
        assert!(first.returns.is_none());
        // The last one.
        second.say(FromWorker::Disconnect).unwrap();
        let told = (0..200).any(|_| {
            primary.turn(Some(Duration::from_millis(20))).unwrap();
            matches!(second.read(), Read::Leave)
        });
        assert!(told && second.returns.is_none());
    });
}
