//! Harm by chance: a schedule that a seed gives, and its execution.

use std::fmt;
use std::time::Duration;

use cluster_bench::error::Result;

use crate::clock::{self, MS};
use crate::harm::{Harmed, Shortage};
use crate::random::Random;
use crate::server::Server;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Kill,
    /// For so many milliseconds.
    Stop(u64),
    Busy,
    /// No descriptor is to be had, by a worker or by the primary.
    WorkerShort(u64),
    PrimaryShort(u64),
    Replace,
    Resize(u64),
    Disconnect,
}

/// At that time after the beginning, to the worker that `pick` chooses of those that serve then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    pub at: u64,
    pub action: Action,
    pub pick: u64,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ms {:?} {}", self.at, self.action, self.pick % 1000)
    }
}

/// A kill in each interval of so many milliseconds. At any time in it: clients come in step with the clock, and each kill would
/// otherwise meet a connection at the same point of its way.
pub fn storm(seed: u64, every: u64, kills: u64) -> Vec<Step> {
    let mut random = Random::new(seed);
    let mut step = |i| Step { at: i * every + random.below(every), action: Action::Kill, pick: random.next() };
    (1..=kills).map(&mut step).collect()
}

/// Everything, in no order; the last step brings the number of workers back to where it was.
pub fn mixed(seed: u64, milliseconds: u64, workers: u64) -> Vec<Step> {
    let mut random = Random::new(seed);
    let mut steps = Vec::new();
    let mut at = 100;
    while at < milliseconds {
        let action = match random.below(16) {
            0..=4 => Action::Kill,
            5..=7 => Action::Stop(random.between(20, 800)),
            8 => Action::Busy,
            9 | 10 => Action::WorkerShort(random.between(50, 600)),
            11 => Action::PrimaryShort(random.between(50, 600)),
            12 | 13 => Action::Replace,
            14 => Action::Resize(random.between(2, workers + 2)),
            _ => Action::Disconnect,
        };
        steps.push(Step { at, action, pick: random.next() });
        at += random.between(20, 220);
    }
    steps.push(Step { at: milliseconds, action: Action::Resize(workers), pick: 0 });
    steps
}

/// What has to be taken back later.
enum Pending {
    Stopped(u32),
    Short(Shortage),
}

/// Does it all, and takes all of it back.
pub fn execute(server: &mut Server, steps: &[Step], harmed: &mut Harmed) -> Result<()> {
    let begin = clock::now();
    let mut pending: Vec<(u64, Pending)> = Vec::new();
    let mut next = 0;
    while next < steps.len() || !pending.is_empty() {
        let elapsed = (clock::now() - begin) / MS;
        let mut later = Vec::new();
        for (at, what) in pending.drain(..) {
            match what {
                what if at > elapsed => later.push((at, what)),
                Pending::Stopped(pid) => harmed.go_on(pid),
                Pending::Short(shortage) => shortage.end()?,
            }
        }
        pending = later;
        if let Some(step) = steps.get(next).filter(|step| step.at <= elapsed) {
            next += 1;
            if let Some((length, what)) = act(server, step, harmed, &pending)? {
                pending.push((elapsed + length, what));
            }
        } else {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    Ok(())
}

fn act(
    server: &mut Server,
    step: &Step,
    harmed: &mut Harmed,
    pending: &[(u64, Pending)],
) -> Result<Option<(u64, Pending)>> {
    let serving = server.serving();
    let is_short = |pid: u32| pending.iter().any(|(_, what)| matches!(what, Pending::Short(other) if other.pid == pid));
    let primary = server.primary().as_raw() as u32;
    let Some((id, worker)) = serving.get((step.pick % serving.len().max(1) as u64) as usize).copied() else {
        return Ok(None);
    };
    match step.action {
        Action::Kill => harmed.kill(worker.pid),
        Action::Stop(length) => {
            harmed.stop(worker.pid);
            return Ok(Some((length, Pending::Stopped(worker.pid))));
        }
        Action::Busy => harmed.keep_busy(worker.pid, server.shape.busy_ms),
        Action::WorkerShort(length) if !is_short(worker.pid) => {
            // It may be gone by now.
            return Ok(Shortage::of(worker.pid).ok().map(|shortage| (length, Pending::Short(shortage))));
        }
        Action::PrimaryShort(length) if !is_short(primary) => {
            return Ok(Some((length, Pending::Short(Shortage::of(primary)?))));
        }
        Action::WorkerShort(_) | Action::PrimaryShort(_) => {}
        Action::Replace => server.command(&format!("replace {id}"))?,
        Action::Resize(workers) => server.command(&format!("resize {workers}"))?,
        Action::Disconnect => server.command(&format!("disconnect {id}"))?,
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_schedule_again_and_another_another() {
        assert_eq!(mixed(7, 5000, 4), mixed(7, 5000, 4));
        assert_ne!(mixed(7, 5000, 4), mixed(8, 5000, 4));
        let kills = storm(1, 100, 300);
        assert_eq!(kills, storm(1, 100, 300));
        assert!(kills.iter().zip(1..).all(|(kill, i)| kill.at / 100 == i), "one in each interval");
        assert_eq!(kills.len(), 300);
    }

    #[test]
    fn a_schedule_ends_with_as_many_workers_as_it_began_with() {
        for seed in 1..20 {
            let steps = mixed(seed, 3000, 4);
            assert_eq!(steps.last().map(|step| step.action), Some(Action::Resize(4)));
            assert!(steps.is_sorted_by_key(|step| step.at));
        }
    }
}
