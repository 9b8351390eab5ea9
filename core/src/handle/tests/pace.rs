//! Who is stuck and who is back, who pauses, and what a window grows to.

use super::*;

#[test]
fn a_mailbox_is_stuck_after_a_few_looks_and_not_before() {
    let mut site = Site::new(Policy::RoundRobin, 1);
    site.clients(2);
    site.pump();
    // One look to see that something waits, and three at which it still does.
    let looks = site.looks_until_stuck(0);
    assert!((3..=5).contains(&looks), "{looks} looks of {LOOK:?}");
}

#[test]
fn one_that_is_late_is_not_stuck_as_soon() {
    let mut site = Site::new(Policy::RoundRobin, 1);
    site.clients(3);
    site.pump();
    for _ in 0..3 {
        for _ in 0..3 {
            site.look();
        }
        assert!(site.member(0).has_turn());
        assert_eq!(site.takes(0, 1).len(), 1, "what it takes makes up for the looks before");
    }
}

#[test]
fn who_is_stuck_is_back_when_its_worker_has_taken_something_and_not_before() {
    let mut site = Site::new(Policy::RoundRobin, 1);
    site.clients(3);
    site.pump();
    site.looks_until_stuck(0);
    // Nobody else could serve what waits, so nothing is taken back.
    for _ in 0..10 {
        site.look();
        site.handle.mailbox_changed(0, &site.poll);
        site.pump();
        assert!(!site.member(0).has_turn(), "nothing has been taken");
    }
    assert_eq!(site.takes(0, 1).len(), 1);
    assert!(site.member(0).has_turn());
    // Seen at a look, too.
    site.looks_until_stuck(0);
    let worker = descriptor::duplicate(site.workers[0].as_fd()).unwrap();
    cmsg::receive(worker.as_fd(), &mut [0; PARCEL_MAX], 1, libc::MSG_CMSG_CLOEXEC).unwrap();
    site.look();
    assert!(site.member(0).has_turn());
}

#[test]
fn what_waits_for_one_that_is_stuck_goes_to_the_others() {
    let mut site = Site::new(Policy::RoundRobin, 2);
    let ports = site.clients(4);
    site.pump();
    let mut taken = site.takes_all(1);
    assert_eq!(taken.len(), 2);
    site.looks_until_stuck(0);
    site.pump();
    taken.extend(site.takes_all(1));
    assert_eq!(sorted(taken), sorted(ports));
    assert_eq!(site.handle.stats().reclaimed, 2);
}

#[test]
fn what_waits_for_one_that_pauses_goes_to_the_others_until_it_resumes() {
    let mut site = Site::new(Policy::RoundRobin, 2);
    let mut ports = site.clients(4);
    site.pump();
    let mut taken = site.takes_all(1);
    site.handle.pause_member(0, true, &site.poll);
    site.pump();
    taken.extend(site.takes_all(1));
    ports.extend(site.clients(2));
    site.pump();
    taken.extend(site.takes_all(1));
    assert_eq!(sorted(taken), sorted(ports), "all that came");
    assert_eq!(site.takes_all(0), [], "and nothing is left here");
    site.handle.pause_member(0, false, &site.poll);
    site.clients(4);
    site.pump();
    assert_eq!((site.takes_all(0).len(), site.takes_all(1).len()), (2, 2));
}

#[test]
fn whoever_pauses_and_resumes_without_taking_anything_is_found_stuck_and_stays_so() {
    let mut site = Site::new(Policy::RoundRobin, 2);
    site.clients(4);
    site.pump();
    site.takes_all(1);
    let winks = |site: &mut Site| {
        site.handle.pause_member(0, true, &site.poll);
        site.handle.pause_member(0, false, &site.poll);
    };
    let found = (0..100).position(|_| {
        winks(&mut site);
        site.look();
        !site.member(0).has_turn()
    });
    assert!(found.is_some(), "what waits for it is known to wait");
    for _ in 0..3 {
        winks(&mut site);
        site.look();
        site.pump();
        assert!(!site.member(0).has_turn(), "it has taken nothing");
    }
    // The NOP that is left when all is taken back shows that it is there again.
    site.takes_all(1);
    site.pump();
    assert_eq!(site.takes_all(0), []);
    site.look();
    assert!(site.member(0).has_turn());
}

#[test]
fn a_window_grows_with_one_that_keeps_up_and_shrinks_when_it_falls_behind() {
    let mut site = Site::new(Policy::RoundRobin, 1);
    // On a busy machine this thread may be away for longer than one that keeps up is.
    for _ in 0..1000 {
        site.clients(WINDOW as usize + 1);
        site.pump();
        site.takes_all(0);
        if site.member(0).mailbox.window() > WINDOW {
            break;
        }
        site.pump();
        site.takes_all(0);
        site.clients.clear();
    }
    assert_eq!(site.member(0).mailbox.window(), WINDOW + 1);
    site.pump();
    site.takes_all(0);
    site.clients(1);
    site.pump();
    site.look();
    assert_eq!(site.member(0).mailbox.window(), WINDOW + 1, "that something waits is no sign yet");
    site.look();
    assert_eq!(site.member(0).mailbox.window(), WINDOW);
}

#[test]
fn a_window_is_never_greater_than_the_settings_say() {
    let mut site = Site::new(Policy::RoundRobin, 1);
    for _ in 0..40 {
        site.clients(WINDOW_MOST as usize + 4);
        site.pump();
        assert!(site.member(0).mailbox.waiting() <= WINDOW_MOST);
        while !site.takes_all(0).is_empty() {
            site.pump();
        }
        site.clients.clear();
    }
    assert!(site.member(0).mailbox.window() <= WINDOW_MOST);
}
