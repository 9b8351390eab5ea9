//! The last that leave an address are given what others have left, or stand still in front of: nobody comes after them.

use super::*;

/// Two members with two clients each, of whom the second has taken its own. Those of the first.
fn one_takes(site: &mut Site) -> Vec<u16> {
    let ports = site.clients(4);
    site.pump();
    let taken = site.takes_all(1);
    assert_eq!(taken.len(), 2);
    ports.into_iter().filter(|port| !taken.contains(port)).collect()
}

#[test]
fn the_last_to_leave_is_given_what_waits_for_one_that_is_stuck() {
    let mut site = Site::new(Policy::RoundRobin, 2);
    let waiting = one_takes(&mut site);
    site.looks_until_stuck(0);
    site.handle.stop_member(1).unwrap();
    assert_eq!(site.takes_all(1), waiting);
}

#[test]
fn the_last_to_leave_is_given_what_another_left() {
    let mut site = Site::new(Policy::RoundRobin, 2);
    let waiting = one_takes(&mut site);
    site.handle.leave(0, &site.poll);
    site.handle.stop_member(1).unwrap();
    assert_eq!(site.takes_all(1), waiting);
    assert_eq!(site.handle.unserved(), 0);
}

#[test]
fn when_the_time_is_over_whoever_took_something_is_given_what_waits_for_one_that_took_nothing() {
    let mut site = Site::new(Policy::RoundRobin, 2);
    let waiting = one_takes(&mut site);
    // Too soon for the watch to have found it stuck.
    site.handle.shut_door(&site.poll, Instant::now());
    site.handle.hand_out_rest();
    assert_eq!(site.takes_all(1), waiting);
}

#[test]
fn who_is_stuck_keeps_what_it_has_where_nobody_else_moves() {
    let mut site = Site::new(Policy::RoundRobin, 2);
    let ports = site.clients(4);
    site.pump();
    site.looks_until_stuck(0);
    site.looks_until_stuck(1);
    site.handle.stop_member(0).unwrap();
    site.handle.stop_member(1).unwrap();
    let [first, second] = [0, 1].map(|number| site.takes_all(number));
    assert_eq!((first.len(), second.len()), (2, 2));
    assert_eq!(sorted([first, second].concat()), sorted(ports));
}
