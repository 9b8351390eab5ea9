//! That the oracle finds each kind of breach, and none where there is none.

use super::*;
use crate::clock::SECOND;

fn judge(entries: &[Entry], claims: &[Claim], windows: &[Window]) -> Verdict {
    super::judge(entries, claims, windows, 1)
}

const BEGUN: u64 = 100 * SECOND;

fn entry(id: u64, outcome: Outcome) -> Entry {
    Entry { id, port: 1000 + id as u16, begun: BEGUN, ended: BEGUN + 10 * MS, outcome }
}

fn answered(id: u64, pid: u32) -> Entry {
    entry(id, Outcome::Answered { pid, sent: BEGUN + 9 * MS })
}

fn accepted(id: u64, pid: u32) -> Claim {
    Claim { kind: Kind::Accepted, pid, worker: pid, port: 1000 + id as u16, time: BEGUN + MS, id: 0 }
}

fn read(id: u64, pid: u32) -> Claim {
    Claim { kind: Kind::Read, pid, worker: pid, port: 1000 + id as u16, time: BEGUN + 2 * MS, id }
}

fn killed(pid: u32, after: u64) -> Window {
    Window { pid, harm: Harm::Killed, begin: BEGUN + after, end: u64::MAX }
}

fn held_up(pid: u32) -> Window {
    Window { pid, harm: Harm::HeldUp, begin: BEGUN + 3 * MS, end: BEGUN + 5 * MS }
}

fn breaches(entries: &[Entry], claims: &[Claim], windows: &[Window]) -> Vec<Breach> {
    judge(entries, claims, windows).breaches
}

#[test]
fn one_claim_and_its_answer_is_as_it_should_be() {
    let verdict = judge(&[answered(1, 7)], &[accepted(1, 7), read(1, 7)], &[]);
    assert_eq!(verdict.breaches, []);
    assert_eq!((verdict.requests, verdict.answered, verdict.lost(), verdict.hung), (1, 1, 0, 0));
    assert_eq!(verdict.longest, 10.0);
}

#[test]
fn what_two_workers_took_is_found() {
    let claims = [accepted(1, 7), read(1, 7), accepted(1, 8), read(1, 8)];
    assert_eq!(breaches(&[answered(1, 7)], &claims, &[]), [Breach::TakenTwice { id: 1 }]);
    // Only accepted by the other one.
    let claims = [accepted(1, 7), read(1, 7), accepted(1, 8)];
    assert_eq!(breaches(&[answered(1, 7)], &claims, &[]), [Breach::TakenTwice { id: 1 }]);
    // The same worker twice.
    let claims = [accepted(1, 7), read(1, 7), read(1, 7)];
    assert_eq!(breaches(&[answered(1, 7)], &claims, &[]), [Breach::TakenTwice { id: 1 }]);
}

#[test]
fn a_port_that_is_used_again_is_another_connection() {
    let mut later = accepted(1, 8);
    later.time = BEGUN + SECOND;
    assert_eq!(breaches(&[answered(1, 7)], &[accepted(1, 7), read(1, 7), later], &[]), []);
}

#[test]
fn an_answer_needs_a_claim_of_him_who_gives_it() {
    assert_eq!(breaches(&[answered(1, 7)], &[accepted(1, 7)], &[]), [Breach::AnsweredUnclaimed { id: 1 }]);
    let claims = [accepted(1, 8), read(1, 8)];
    assert_eq!(breaches(&[answered(1, 7)], &claims, &[]), [Breach::AnsweredUnclaimed { id: 1 }]);
}

#[test]
fn what_a_dead_worker_had_in_hand_is_lost_with_it() {
    for outcome in [Outcome::Reset, Outcome::Ended] {
        for claims in [vec![accepted(1, 7)], vec![accepted(1, 7), read(1, 7)]] {
            let verdict = judge(&[entry(1, outcome)], &claims, &[killed(7, 4 * MS)]);
            assert_eq!(verdict.breaches, []);
            assert_eq!((verdict.in_hand, verdict.slowest_farewell), (1, 6.0));
            // Another one's death excuses nothing, nor one that was before.
            let lost = Breach::LostByTheLiving { id: 1, pid: 7 };
            assert_eq!(breaches(&[entry(1, outcome)], &claims, &[killed(8, 4 * MS)]), [lost]);
            let before = Window { begin: BEGUN - SECOND, ..killed(7, 0) };
            assert_eq!(breaches(&[entry(1, outcome)], &claims, &[before]), [lost]);
        }
    }
}

#[test]
fn what_nobody_took_may_be_lost_once_in_a_hundred_deaths() {
    let entries: Vec<Entry> = (1..=3).map(|id| entry(id, Outcome::Reset)).collect();
    assert_eq!(breaches(&entries[..1], &[], &[]), [Breach::Lost { id: 1 }]);
    // A second after the death of somebody.
    let early = Window { begin: BEGUN - SECOND, ..killed(7, 0) };
    assert_eq!(breaches(&entries[..1], &[], &[early]), [Breach::Lost { id: 1 }]);
    let verdict = judge(&entries[..1], &[], &[killed(7, 4 * MS)]);
    assert_eq!((verdict.breaches.len(), verdict.unclaimed), (0, 1));
    let deaths: Vec<Window> = (0..150).map(|i| killed(i, 4 * MS)).collect();
    assert_eq!(breaches(&entries, &[], &deaths), [Breach::LostWithTheDead { id: 3 }]);
    assert_eq!(judge(&entries, &[], &deaths).lost(), 1);
}

#[test]
fn nobody_may_be_refused_or_left_hanging() {
    assert_eq!(breaches(&[entry(1, Outcome::Refused)], &[], &[killed(7, 0)]), [Breach::Refused { id: 1 }]);
    let hung = [entry(1, Outcome::Hung)];
    assert_eq!(breaches(&hung, &[], &[held_up(7)]), [Breach::Hung { id: 1, taken_by: None }]);
    // A death must be told to the client.
    assert_eq!(breaches(&hung, &[accepted(1, 7)], &[killed(7, MS)]), [Breach::Hung { id: 1, taken_by: Some(7) }]);
    // What a worker that is held up has in hand waits with it.
    let verdict = judge(&hung, &[accepted(1, 7)], &[held_up(7)]);
    assert_eq!((verdict.breaches.len(), verdict.hung, verdict.hung_in_hand), (0, 1, 1));
    assert_eq!(breaches(&hung, &[accepted(1, 7)], &[held_up(8)]), [Breach::Hung { id: 1, taken_by: Some(7) }]);
}

#[test]
fn a_wait_in_a_hand_that_was_held_up_is_not_the_clusters() {
    let claims = [accepted(1, 7), read(1, 7)];
    assert_eq!(judge(&[answered(1, 7)], &claims, &[held_up(7)]).longest, 0.0);
    assert_eq!(judge(&[answered(1, 7)], &claims, &[held_up(8)]).longest, 10.0);
}

#[test]
fn what_was_taken_after_a_worker_was_held_up_has_waited_for_it() {
    // It was dealt to a worker that had stopped 50 ms before, and was taken when that one went on.
    let stopped = Window { begin: BEGUN - 50 * MS, end: BEGUN, ..held_up(7) };
    assert_eq!(judge(&[answered(1, 7)], &[accepted(1, 7), read(1, 7)], &[stopped]).longest, 10.0);
    let hung = [entry(1, Outcome::Hung)];
    assert_eq!(breaches(&hung, &[accepted(1, 7)], &[stopped]), [Breach::Hung { id: 1, taken_by: Some(7) }]);
    // A connection that is kept open is in its worker's hand all the time.
    let kept = Entry { id: KEEP << 56 | 1, ..answered(1, 7) };
    let claim = Claim { id: kept.id, ..read(1, 7) };
    let stopped = Window { begin: BEGUN - 50 * MS, end: BEGUN + MS, ..held_up(7) };
    assert_eq!(judge(&[kept], &[claim], &[stopped]).longest, 0.0);
}

#[test]
fn a_claim_that_nobody_asked_for_is_found() {
    assert_eq!(breaches(&[], &[read(5, 7)], &[]), [Breach::Invented { id: 5 }]);
}
