//! How an address is given up, and what else of a handle depends on time.

use super::super::audit::TELL_AGAIN;
use super::super::closing::{HANDSHAKES, UNTOLD};
use super::super::flow::PAUSE;
use super::*;

#[test]
fn it_is_quiet_when_two_looks_in_a_row_find_nobody() {
    let mut site = Site::new(Policy::RoundRobin, 1);
    let now = Instant::now();
    let (port, ms) = (site.at.port(), Duration::from_millis(1));
    site.handle.shut_door(&site.poll, now);
    assert!(TcpStream::connect(site.at).is_err(), "nobody new comes in");
    let mut under_way = |after: Duration, ports: &[u16]| {
        let ports = ports.to_vec();
        site.handle.is_quiet(now + after, &mut || Some(ports.clone()))
    };
    assert!(!under_way(ms, &[]));
    assert!(!under_way(2 * ms, &[port]), "one was in its handshake as the door was shut");
    assert!(!under_way(3 * ms, &[]));
    assert!(!under_way(HANDSHAKES - ms, &[port]), "it is waited for");
    assert!(!under_way(HANDSHAKES - ms, &[port.wrapping_add(1)]), "another's is none of its");
    assert!(under_way(HANDSHAKES - ms, &[]));
    assert!(HANDSHAKES >= Duration::from_secs(2), "a second SYN comes after a second");
}

#[test]
fn nobody_is_waited_for_longer_than_a_handshake_may_last() {
    let mut site = Site::new(Policy::RoundRobin, 1);
    let now = Instant::now();
    let port = site.at.port();
    site.handle.shut_door(&site.poll, now);
    let mut always = || Some(vec![port]);
    assert!(!site.handle.is_quiet(now + HANDSHAKES / 2, &mut always));
    assert!(!site.handle.is_quiet(now + HANDSHAKES, &mut always));
    assert!(site.handle.is_quiet(now + HANDSHAKES, &mut always));
    // And where the kernel does not tell.
    let mut site = Site::new(Policy::RoundRobin, 1);
    site.handle.shut_door(&site.poll, now);
    let quiet = [UNTOLD / 2, UNTOLD, UNTOLD].map(|after| site.handle.is_quiet(now + after, &mut || None));
    assert_eq!(quiet, [false, false, true]);
}

#[test]
fn it_is_not_quiet_while_somebody_waits() {
    let mut site = Site::new(Policy::RoundRobin, 1);
    site.clients(1);
    let now = Instant::now();
    site.handle.shut_door(&site.poll, now);
    let quiet = |site: &mut Site| {
        let looks = [0, 1].map(|_| site.handle.is_quiet(now, &mut || Some(Vec::new())));
        looks[1]
    };
    assert!(!quiet(&mut site), "in the kernel's queue");
    site.pump();
    assert!(!quiet(&mut site), "in a mailbox");
    assert_eq!(site.takes_all(0).len(), 1);
    assert!(quiet(&mut site));
}

#[test]
fn what_is_left_goes_to_those_who_move() {
    let mut site = Site::new(Policy::RoundRobin, 2);
    site.clients(2 * WINDOW as usize + 6);
    site.pump();
    // The second is slow, and takes one now and then.
    while site.member(0).has_turn() {
        site.takes(1, 1);
        site.look();
    }
    assert!(!site.member(0).moves() && site.member(1).moves());
    let before = [0, 1].map(|number| site.member(number).mailbox.waiting());
    site.handle.shut_door(&site.poll, Instant::now());
    site.handle.hand_out_rest();
    let after = [0, 1].map(|number| site.member(number).mailbox.waiting());
    assert!(after[0] <= before[0], "{before:?}, then {after:?}");
    assert!(after[1] >= before[1] + 6, "{before:?}, then {after:?}: beyond its window");
    assert_eq!(site.handle.unserved(), 0);
}

#[test]
fn a_pause_after_a_shortage_doubles_up_to_a_limit_and_is_short_again_afterwards() {
    let mut site = Site::new(Policy::RoundRobin, 1);
    let now = Instant::now();
    let mut pauses = Vec::new();
    for _ in 0..7 {
        site.handle.flow.pause(now);
        pauses.push(site.handle.flow.paused_until(now).unwrap() - now);
    }
    let (first, most) = PAUSE;
    assert_eq!(pauses[..3], [first, 2 * first, 4 * first]);
    assert_eq!(pauses[5..], [most, most]);
    site.clients(1);
    assert_eq!(site.handle.pump(&site.poll, now), Pumped::At(now + most), "until then nothing is tried");
    assert_eq!(site.handle.pump(&site.poll, now + most), Pumped::Done);
    assert_eq!(site.takes_all(0).len(), 1);
    site.handle.flow.pause(now);
    assert_eq!(site.handle.flow.paused_until(now).unwrap() - now, first);
}

#[test]
fn the_program_is_not_told_again_and_again() {
    let mut site = Site::new(Policy::RoundRobin, 1);
    let now = Instant::now();
    let told = [Duration::ZERO, Duration::from_secs(1), TELL_AGAIN, TELL_AGAIN + Duration::from_secs(1)];
    assert_eq!(told.map(|after| site.handle.may_warn(now + after)), [true, false, true, false]);
}

#[test]
fn a_look_that_comes_late_shows_less_and_owners_are_given_time() {
    let poll = Poll::new().unwrap();
    let look = |in_time, patience| Look {
        poll: &poll,
        interval: LOOK,
        elapsed: LOOK,
        in_time,
        patience: Duration::from_millis(patience),
        part_of_running: PART_OF_RUNNING,
        calm: false,
        slack: 2,
        workers: &Silent,
    };
    assert_eq!(look(true, 10).evidence(), LOOK);
    assert!(look(false, 10).evidence() <= LOOK / 2, "the primary itself did not run");
    let owners = look(true, 10);
    let owners = owners.at_owners();
    assert_eq!((owners.patience, owners.part_of_running), (Duration::from_millis(60), 1));
    assert_eq!(
        look(true, 500).at_owners().patience,
        Duration::from_millis(500),
        "as the settings say where that is more"
    );
    assert!(look(true, 500).soon() <= LOOK);
}
