//! What a fleet promises, one by one. `model` has all of it at once.

use std::time::{Duration, Instant};

use super::coming::{Proof, Terms, Why};
use super::swap::NotNow;
use super::{Action, Bounds, Busy, Fleet, News, Order, Outcome, Phase, ReloadOptions, When};

const MS: Duration = Duration::from_millis(1);

/// What was ordered: slot, generation, whether beside somebody, and the order's number.
type Ordered = (u32, u32, bool, Order);
/// What becomes of a worker.
type Fate = fn(&mut Stage, u32);

/// A fleet, and the time.
struct Stage {
    fleet: Fleet,
    now: Instant,
    last: u32,
}

fn ready() -> Proof {
    Proof { listens: true, ..Proof::default() }
}

impl Stage {
    /// Workers 1 to n sit in slots 0 to n-1.
    fn with(slots: u32) -> Self {
        let mut fleet = Fleet::new(Bounds::default());
        for slot in 0..slots {
            fleet.seat(slot, slot + 1);
        }
        Self { fleet, now: Instant::now(), last: slots }
    }

    fn actions(&mut self) -> Vec<Action> {
        std::iter::from_fn(|| self.fleet.next_action()).collect()
    }

    /// What it starts, and everything else.
    fn starts(&mut self) -> (Vec<Ordered>, Vec<Action>) {
        let mut starts = Vec::new();
        let mut others = Vec::new();
        for action in self.actions() {
            match action {
                Action::Start { slot, generation, beside, order } => starts.push((slot, generation, beside, order)),
                other => others.push(other),
            }
        }
        (starts, others)
    }

    /// Makes the one worker that it wants; that, and everything else.
    fn make(&mut self) -> (u32, Vec<Action>) {
        let (starts, others) = self.starts();
        let [(_, _, _, order)] = starts[..] else { panic!("one is to be started, not {starts:?}") };
        self.last += 1;
        self.fleet.started(order, Ok(self.last), self.now);
        (self.last, others)
    }

    /// A worker is ready, and stays so for long enough.
    fn prove(&mut self, worker: u32) -> Vec<Action> {
        self.fleet.observe(worker, &ready(), self.now);
        self.pass(500);
        self.actions()
    }

    fn pass(&mut self, ms: u32) {
        self.now += MS * ms;
        self.fleet.tick(self.now);
    }

    fn reload(&mut self) -> u32 {
        self.fleet.reload(ReloadOptions::default()).unwrap()
    }
}

fn ended(actions: &[Action]) -> Option<(u32, Outcome, usize, &str)> {
    actions.iter().find_map(|action| match action {
        Action::Tell(News::Reload { generation, phase: Phase::Ended(outcome), replaced, reason }) => {
            Some((*generation, *outcome, *replaced, reason.as_str()))
        }
        _ => None,
    })
}

fn swaps(actions: &[Action]) -> Vec<(Option<u32>, u32)> {
    let swap = |action: &Action| match action {
        Action::Swap { old, new, .. } => Some((*old, *new)),
        _ => None,
    };
    actions.iter().filter_map(swap).collect()
}

#[test]
fn a_reload_swaps_one_slot_after_the_other() {
    let mut stage = Stage::with(2);
    assert_eq!(stage.reload(), 2);
    let (third, others) = stage.make();
    let checking = News::Reload { generation: 2, phase: Phase::Checking, replaced: 0, reason: String::new() };
    assert_eq!(others, [Action::Tell(checking)]);
    let proving = |stage: &Stage| stage.fleet.unready().filter(|(_, old, _)| old.is_some()).collect::<Vec<_>>();
    assert_eq!(proving(&stage), [(third, Some(1), false)]);
    stage.fleet.observe(third, &ready(), stage.now);
    assert_eq!(proving(&stage), [(third, Some(1), false)], "it has to stay so");
    stage.pass(499);
    assert_eq!(stage.actions(), [Action::Tell(News::Ready { worker: third, generation: 2 })], "it has lived 499 ms");
    stage.pass(1);
    let (fourth, others) = stage.make();
    assert_eq!(swaps(&others), [(Some(1), third)]);
    assert!(matches!(others[1], Action::Tell(News::Reload { phase: Phase::Rolling, replaced: 1, .. })), "{others:?}");
    let last = stage.prove(fourth);
    assert_eq!(swaps(&last), [(Some(2), fourth)]);
    assert_eq!(ended(&last), Some((2, Outcome::Done, 2, "")));
    assert_eq!((stage.fleet.in_force(), stage.fleet.goes_back_to()), (2, Some(1)));
}

#[test]
fn several_at_a_time_and_no_more() {
    let mut stage = Stage::with(5);
    stage.fleet.reload(ReloadOptions { parallel: 3, ..ReloadOptions::default() }).unwrap();
    let (starts, _) = stage.starts();
    assert_eq!(starts.iter().map(|start| start.0).collect::<Vec<_>>(), [0, 1, 2]);
}

#[test]
fn what_fails_first_is_refused_and_nothing_is_taken_from_the_old() {
    let fates: [(&str, Fate); 4] = [
        ("worker 3 exited with code 1 before it was ready", |stage, worker| {
            stage.fleet.ended(worker, true, "exited with code 1");
        }),
        ("worker 3 has not come so far as to listen after 10.0 s", |stage, _| stage.pass(10_000)),
        ("worker 3 does not listen on tcp:1 (the one before it does) after 10.0 s", |stage, worker| {
            stage.fleet.observe(worker, &Proof { missing: Some("tcp:1".to_owned()), ..ready() }, stage.now);
            stage.pass(10_000);
        }),
        ("worker 3 cannot say that it is ready, because it has no page of the scoreboard", |stage, worker| {
            stage.fleet.observe(worker, &Proof { manual: true, ..ready() }, stage.now);
        }),
    ];
    for (reason, fate) in fates {
        let mut stage = Stage::with(2);
        stage.reload();
        let (worker, _) = stage.make();
        fate(&mut stage, worker);
        let actions = stage.actions();
        assert_eq!(ended(&actions), Some((2, Outcome::Refused, 0, reason)));
        let touched = |action: &Action| {
            matches!(action, Action::Swap { .. } | Action::Retire { worker: 1 | 2 } | Action::Start { .. })
        };
        assert!(!actions.iter().any(touched), "{actions:?}");
        assert_eq!((stage.fleet.in_force(), stage.fleet.goes_back_to()), (1, None));
    }
}

#[test]
fn a_program_that_cannot_be_started_is_refused_in_its_own_words() {
    let mut stage = Stage::with(1);
    stage.reload();
    let (starts, _) = stage.starts();
    stage.fleet.started(starts[0].3, Err("no such file".to_owned()), stage.now);
    assert_eq!(ended(&stage.actions()), Some((2, Outcome::Refused, 0, "no such file")));
}

#[test]
fn a_later_failure_puts_the_newest_back_first() {
    let mut stage = Stage::with(3);
    stage.reload();
    for _ in 0..2 {
        let (worker, _) = stage.make();
        stage.fleet.observe(worker, &ready(), stage.now);
        stage.pass(500);
    }
    let (worker, _) = stage.make();
    stage.fleet.ended(worker, true, "was ended by signal 11");
    for slot in [1, 0] {
        let (starts, _) = stage.starts();
        assert_eq!(starts.iter().map(|start| (start.0, start.1)).collect::<Vec<_>>(), [(slot, 1)], "by the old recipe");
        stage.last += 1;
        stage.fleet.started(starts[0].3, Ok(stage.last), stage.now);
        stage.fleet.observe(stage.last, &ready(), stage.now);
        stage.pass(500);
    }
    let reason = "worker 6 was ended by signal 11 before it was ready";
    assert_eq!(ended(&stage.actions()), Some((2, Outcome::RolledBack, 0, reason)));
    assert_eq!(stage.fleet.in_force(), 1);
}

#[test]
fn who_dies_soon_after_its_swap_has_failed_too_and_one_that_served_has_not() {
    for short in [true, false] {
        let mut stage = Stage::with(2);
        stage.reload();
        let (first, _) = stage.make();
        stage.prove(first);
        stage.fleet.ended(first, short, "was ended by signal 9");
        let (starts, _) = stage.starts();
        assert_eq!(starts.iter().any(|start| start.1 == 1 && start.2), short, "the old recipe again: {starts:?}");
        // By the back-off; where somebody is on the way already, nobody else is started.
        stage.fleet.replace_now(0);
        let (starts, _) = stage.starts();
        assert_eq!(starts.iter().map(|start| start.1).collect::<Vec<_>>(), if short { vec![] } else { vec![2] });
    }
}

#[test]
fn what_was_swapped_may_be_kept() {
    let mut stage = Stage::with(2);
    stage.fleet.reload(ReloadOptions { keep: true, ..ReloadOptions::default() }).unwrap();
    let (first, _) = stage.make();
    stage.fleet.observe(first, &ready(), stage.now);
    stage.pass(500);
    let (second, _) = stage.make();
    stage.fleet.ended(second, true, "exited with code 3");
    let (starts, others) = stage.starts();
    assert!(starts.is_empty());
    let reason = "worker 4 exited with code 3 before it was ready; 1 slots have the new workers, and keep them";
    assert_eq!(ended(&others), Some((2, Outcome::Refused, 1, reason)));
}

#[test]
fn a_second_reload_supersedes_waits_or_is_refused() {
    let mut stage = Stage::with(1);
    stage.reload();
    let (first, _) = stage.make();
    assert_eq!(stage.fleet.reload(ReloadOptions { when: When::Idle, ..ReloadOptions::default() }), Err(Busy::Reload));
    assert_eq!(stage.fleet.reload(ReloadOptions { when: When::Later, ..ReloadOptions::default() }), Ok(3));
    assert_eq!(stage.actions(), [], "it waits");
    assert_eq!(stage.reload(), 4);
    let (starts, others) = stage.starts();
    let superseded = |action: &Action| match action {
        Action::Tell(News::Reload { generation, phase: Phase::Ended(Outcome::Superseded), .. }) => Some(*generation),
        _ => None,
    };
    assert_eq!(others.iter().filter_map(superseded).collect::<Vec<_>>(), [3, 2]);
    assert!(others.contains(&Action::Retire { worker: first }));
    assert_eq!(starts.iter().map(|start| start.1).collect::<Vec<_>>(), [4]);
}

#[test]
fn one_that_waits_comes_when_the_other_has_ended_whatever_that_came_to() {
    for good in [true, false] {
        let mut stage = Stage::with(1);
        stage.reload();
        let (first, _) = stage.make();
        stage.fleet.reload(ReloadOptions { when: When::Later, ..ReloadOptions::default() }).unwrap();
        if good {
            stage.fleet.observe(first, &ready(), stage.now);
            stage.pass(500);
        } else {
            stage.fleet.ended(first, true, "exited with code 1");
        }
        let (starts, others) = stage.starts();
        assert_eq!(ended(&others).map(|end| end.1), Some(if good { Outcome::Done } else { Outcome::Refused }));
        assert_eq!(starts.iter().map(|start| start.1).collect::<Vec<_>>(), [3]);
    }
}

#[test]
fn a_restart_swaps_one_and_tells_when_it_cannot() {
    let mut stage = Stage::with(2);
    stage.fleet.replace(2, Why::Restart).unwrap();
    assert_eq!(stage.fleet.replace(2, Why::Restart), Err(NotNow::Swapping));
    assert_eq!(stage.fleet.replace(9, Why::Restart), Err(NotNow::Gone));
    let (worker, _) = stage.make();
    assert_eq!(swaps(&stage.prove(worker)), [(Some(2), worker)]);
    stage.fleet.replace(worker, Why::Restart).unwrap();
    let (next, _) = stage.make();
    stage.fleet.ended(next, true, "exited with code 1");
    let reason = "worker 4 exited with code 1 before it was ready".to_owned();
    assert_eq!(stage.actions(), [Action::Tell(News::Kept { slot: 1, reason })]);
}

#[test]
fn recycling_goes_one_at_a_time_and_not_while_a_reload_runs() {
    let mut stage = Stage::with(3);
    for worker in 1..=3 {
        stage.fleet.replace(worker, Why::Recycle).unwrap();
    }
    let (first, _) = stage.make();
    let (starts, others) = {
        stage.fleet.observe(first, &ready(), stage.now);
        stage.pass(500);
        stage.starts()
    };
    assert!(others.contains(&Action::Tell(News::Recycled { worker: first, generation: 1 })));
    assert_eq!(starts.iter().map(|start| start.0).collect::<Vec<_>>(), [1]);
    stage.reload();
    let (starts, _) = stage.starts();
    assert_eq!(starts.iter().map(|start| (start.0, start.1)).collect::<Vec<_>>(), [(0, 2)], "it replaces them all");
    assert_eq!(stage.fleet.replace(3, Why::Recycle), Err(NotNow::Swapping));
}

#[test]
fn a_slot_that_goes_is_not_restarted_when_it_comes_again() {
    let mut stage = Stage::with(2);
    stage.fleet.replace(1, Why::Restart).unwrap();
    stage.fleet.replace(2, Why::Restart).unwrap();
    let (first, _) = stage.make();
    stage.fleet.scale(1);
    stage.fleet.scale(2);
    let (anew, _) = stage.make();
    stage.fleet.observe(anew, &ready(), stage.now);
    assert_eq!(swaps(&stage.prove(first)), [(Some(1), first)]);
    assert!(!stage.fleet.is_swapping(), "it is new");
}

#[test]
fn the_highest_slots_go_first_and_come_last() {
    let mut stage = Stage::with(3);
    stage.fleet.scale(1);
    assert_eq!(stage.actions(), [Action::Retire { worker: 3 }, Action::Retire { worker: 2 }]);
    stage.fleet.scale(2);
    let (starts, _) = stage.starts();
    assert_eq!(starts.iter().map(|start| (start.0, start.2)).collect::<Vec<_>>(), [(1, false)]);
    stage.fleet.scale(1);
    stage.fleet.started(starts[0].3, Ok(9), stage.now);
    assert_eq!(stage.actions(), [Action::Retire { worker: 9 }], "nobody waits for it any more");
}

#[test]
fn a_slot_that_goes_during_a_reload_is_not_waited_for() {
    let mut stage = Stage::with(2);
    stage.reload();
    let (first, _) = stage.make();
    stage.fleet.scale(1);
    let last = stage.prove(first);
    assert_eq!(ended(&last).map(|end| (end.1, end.2)), Some((Outcome::Done, 1)));
}

#[test]
fn whoever_is_on_the_way_takes_the_place_of_one_that_died() {
    let mut stage = Stage::with(1);
    stage.reload();
    let (first, _) = stage.make();
    stage.fleet.ended(1, false, "was ended by signal 9");
    assert_eq!(stage.actions(), [], "somebody comes");
    assert_eq!(swaps(&stage.prove(first)), [(None, first)]);
    let mut stage = Stage::with(1);
    stage.reload();
    let (first, _) = stage.make();
    stage.fleet.ended(1, false, "was ended by signal 9");
    stage.fleet.ended(first, true, "exited with code 1");
    assert!(stage.actions().contains(&Action::Replace { slot: 0 }));
    stage.fleet.replace_now(0);
    let (starts, _) = stage.starts();
    assert_eq!(starts.iter().map(|start| (start.1, start.2)).collect::<Vec<_>>(), [(1, false)], "by the old recipe");
}

#[test]
fn a_slot_whose_worker_was_not_to_be_replaced_is_given_up_when_the_one_on_the_way_fails() {
    for last in [true, false] {
        let mut stage = Stage::with(1);
        stage.reload();
        let (first, _) = stage.make();
        stage.fleet.ended(1, false, "exited with code 0");
        assert!(!last || !stage.fleet.abandon(0), "somebody is on the way");
        stage.fleet.ended(first, true, "exited with code 1");
        assert_eq!((stage.fleet.was_last(0), stage.fleet.size()), (last, 1));
        assert_eq!((stage.fleet.abandon(0), stage.fleet.size()), (true, 0));
    }
    let mut stage = Stage::with(1);
    stage.reload();
    let (first, _) = stage.make();
    stage.fleet.ended(1, false, "exited with code 0");
    stage.fleet.abandon(0);
    stage.prove(first);
    stage.fleet.ended(first, false, "was ended by signal 9");
    assert!(!stage.fleet.was_last(0), "another was");
}

#[test]
fn one_that_is_ready_and_closes_its_listener_again_is_not() {
    let mut stage = Stage::with(1);
    stage.reload();
    let (first, _) = stage.make();
    stage.fleet.observe(first, &ready(), stage.now);
    stage.pass(400);
    stage.fleet.observe(first, &Proof::default(), stage.now);
    stage.pass(400);
    assert_eq!(swaps(&stage.actions()), []);
    assert_eq!(swaps(&stage.prove(first)), [(Some(1), first)]);
}

#[test]
fn who_takes_long_to_leave_is_hastened_where_there_are_too_many() {
    let mut stage = Stage::with(1);
    stage.fleet.bounds.draining = Some(1);
    for _ in 0..2 {
        stage.reload();
        let (worker, _) = stage.make();
        let actions = stage.prove(worker);
        let hastened = actions.iter().any(|action| matches!(action, Action::Hasten { worker: 1 }));
        assert_eq!(hastened, worker == 3);
    }
}

#[test]
fn after_a_stop_nothing_begins() {
    let mut stage = Stage::with(2);
    stage.reload();
    let (first, _) = stage.make();
    stage.fleet.stop();
    let actions = stage.actions();
    assert_eq!(ended(&actions), Some((2, Outcome::Superseded, 0, "the cluster is being stopped")));
    assert!(actions.contains(&Action::Retire { worker: first }));
    assert_eq!(stage.fleet.reload(ReloadOptions::default()), Err(Busy::Stop));
    assert_eq!(stage.fleet.replace(1, Why::Restart), Err(NotNow::Stop));
    stage.fleet.scale(9);
    stage.fleet.ended(1, false, "exited with code 0");
    assert_eq!(stage.actions(), []);
}

#[test]
fn patience_may_be_without_an_end() {
    let mut stage = Stage::with(1);
    let terms = Terms { ready: None, alive: Duration::ZERO, fewer: false };
    stage.fleet.reload(ReloadOptions { terms, ..ReloadOptions::default() }).unwrap();
    let (first, _) = stage.make();
    stage.pass(3_600_000);
    assert_eq!(stage.actions(), []);
    assert!(stage.fleet.next_at(stage.now).is_some_and(|at| at <= stage.now + super::action::LOOK));
    stage.fleet.observe(first, &ready(), stage.now);
    assert_eq!(swaps(&stage.actions()), [(Some(1), first)]);
}
