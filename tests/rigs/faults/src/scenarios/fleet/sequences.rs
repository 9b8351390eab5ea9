//! Reloads, scales, restarts, kills and stops in any order and at any time: at the end each slot has one worker, of a generation that
//! may serve, or everybody is gone.

use std::collections::BTreeMap;
use std::time::Duration;

use cluster_bench::error::Result;
use cluster_bench::page::number;

use super::PATIENCE;
use crate::client::Load;
use crate::clock::wait_until;
use crate::contender::Contender;
use crate::harm::Harmed;
use crate::oracle::Entry;
use crate::random::Random;
use crate::scenarios::{Rig, begin};
use crate::server::{Server, Shape};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    /// So many at a time, how long they have to live, what becomes of them, CL_RELOAD_* bits.
    Reload(u64, i64, &'static str, u32),
    Scale(u64),
    /// One of those who serve.
    Restart(u64),
    /// One of those who live.
    Kill(u64),
    Pass(u64),
    Stop,
}

const FATES: [&str; 7] = ["exits", "crashes", "hangs", "less", "unready", "late", "late"];
/// A worker that is no good has so long to become ready, milliseconds.
const READY_TIMEOUT: u64 = 400;

fn deeds(random: &mut Random) -> Vec<Deed> {
    let mut deeds = Vec::new();
    for _ in 0..random.between(4, 14) {
        deeds.push(match random.below(10) {
            0..=3 => {
                let fate = if random.below(5) < 3 { "good" } else { FATES[random.below(7) as usize] };
                // CL_RELOAD_QUEUE, CL_RELOAD_REFUSE_IF_BUSY; CL_NONE.
                let flags = [0, 0, 0, 1, 2][random.below(5) as usize];
                Deed::Reload(random.between(1, 3), [-1, 30, 100][random.below(3) as usize], fate, flags)
            }
            4 | 5 => Deed::Scale(random.between(1, 5)),
            6 => Deed::Restart(random.next()),
            7 | 8 => Deed::Kill(random.next()),
            _ => Deed::Pass(random.below(300)),
        });
        deeds.push(Deed::Pass([0, 0, 3, 20, 60][random.below(5) as usize]));
    }
    if random.below(4) == 0 {
        deeds.push(Deed::Stop);
    }
    deeds
}

/// One cluster and what is done to it.
struct Course {
    server: Server,
    deeds: Vec<Deed>,
    harmed: Harmed,
    slots: u64,
    stopped: bool,
}

/// What it was, what its clients saw, and what was wrong with it at the end.
type Led = (Course, Vec<Entry>, Vec<String>);

pub fn run(rig: &mut Rig, contender: Contender) -> Result<()> {
    // So many in all mechanisms together.
    let (count, at_once) = if rig.quick { (20, 5) } else { (50, 5) };
    let mut random = Random::new(rig.seeds[0]);
    let (mut left, mut requests, mut done) = (0, 0, 0);
    while done < count {
        let (found, all) = side_by_side(rig, contender, (done, at_once), &mut random)?;
        left += found;
        requests += all;
        done += at_once;
    }
    let row = "sequences of reload, scale, restart, kill and stop: that ended with an orphan, a slot without a worker, or a loss";
    let measured = format!("{left} of {done} ({} requests)", number(requests as f64, 0));
    rig.row(contender, row, measured, "0", left == 0);
    Ok(())
}

/// How many of them did not end as they should, and how many requests there were.
fn side_by_side(
    rig: &mut Rig,
    contender: Contender,
    (first, count): (usize, usize),
    random: &mut Random,
) -> Result<(usize, usize)> {
    let mut courses = Vec::new();
    for _ in 0..count {
        let workers = random.between(1, 4);
        let shape = Shape { fleet: true, spawns: true, workers: workers as usize, ..Shape::default() };
        let server = Server::start(rig.shop, contender, shape)?;
        courses.push(Course {
            server,
            deeds: deeds(random),
            harmed: Harmed::default(),
            slots: workers,
            stopped: false,
        });
    }
    let ended: Vec<Result<Led>> = std::thread::scope(|scope| {
        let threads: Vec<_> = courses.into_iter().map(|course| scope.spawn(move || course.lead())).collect();
        threads.into_iter().filter_map(|thread| thread.join().ok()).collect()
    });
    let (mut left, mut requests) = (0, 0);
    for (at, outcome) in ended.into_iter().enumerate() {
        let (course, entries, mut found) = outcome?;
        let what = format!("sequence {} of seed {}", first + at, rig.seeds[0]);
        let before = rig.broken.len();
        rig.judge_silently(&course.server, &entries, &course.harmed, &what)?;
        requests += entries.len();
        let (stopped, told) = (course.stopped, format!("{:?}", course.deeds));
        let ended = if stopped { course.server.ended() } else { course.server.stop() };
        found.extend(ended.err().map(|error| error.to_string()));
        for one in &found {
            rig.breach(contender, &format!("{what}: {one}"));
        }
        if rig.broken.len() > before {
            left += 1;
            println!("  {what}: {told}");
        }
    }
    Ok((left, requests))
}

impl Course {
    /// Does it all under a small load; what the clients saw, and what is wrong at the end.
    fn lead(mut self) -> Result<Led> {
        let load = Load { patience: Duration::from_secs(15), ..Load::new(0, 80.0) };
        let running = begin(&self.server, load)?;
        let mut entries = None;
        for deed in self.deeds.clone() {
            if deed == Deed::Stop {
                // Whoever comes behind it would be refused.
                entries = Some(running.finish()?);
                self.server.command("stop")?;
                self.server.await_end(PATIENCE);
                self.stopped = true;
                wait_until(PATIENCE, || self.server.told().silent);
                self.doom();
                return Ok((self, entries.unwrap_or_default(), Vec::new()));
            }
            self.act(deed)?;
        }
        let found = self.settle();
        let entries = match entries {
            Some(entries) => entries,
            None => running.finish()?,
        };
        self.doom();
        Ok((self, entries, found))
    }

    fn act(&mut self, deed: Deed) -> Result<()> {
        let asked = self.server.told().asked.len();
        match deed {
            Deed::Reload(parallel, alive, fate, flags) => {
                self.server.command(&format!("reload {parallel} {alive} {READY_TIMEOUT} {fate} {flags}"))?;
            }
            Deed::Scale(slots) => self.server.command(&format!("scale {slots}"))?,
            Deed::Restart(pick) => {
                let serving = self.server.serving();
                let Some((id, _)) = serving.get((pick % serving.len().max(1) as u64) as usize) else { return Ok(()) };
                self.server.command(&format!("restart {id}"))?;
            }
            Deed::Kill(pick) => {
                let living = self.living();
                if let Some((_, pid)) = living.get((pick % living.len().max(1) as u64) as usize) {
                    self.harmed.kill(*pid);
                }
                return Ok(());
            }
            Deed::Pass(milliseconds) => {
                std::thread::sleep(Duration::from_millis(milliseconds));
                return Ok(());
            }
            Deed::Stop => return Ok(()),
        }
        wait_until(PATIENCE, || self.server.told().asked.len() > asked || self.server.told().silent);
        if let (Deed::Scale(slots), Some(0)) = (deed, self.server.told().asked.last()) {
            self.slots = slots;
        }
        Ok(())
    }

    fn living(&self) -> Vec<(u64, u32)> {
        let told = self.server.told();
        told.workers.iter().filter(|(_, worker)| worker.ended.is_none()).map(|(id, worker)| (*id, worker.pid)).collect()
    }

    /// Those that were made to fail, and those who were told to hurry because too many were leaving (SIGTERM).
    fn doom(&mut self) {
        let told = self.server.told();
        let ends = told.workers.values().filter_map(|worker| Some((worker, worker.ended?)));
        let meant =
            ends.filter(|(worker, (_, code, signal))| *code != 0 && (worker.generation > Some(1) || *signal == 15));
        self.harmed.doomed.extend(meant.map(|(worker, _)| worker.pid));
    }

    /// Waits until it is as it should be; what it is otherwise.
    fn settle(&self) -> Vec<String> {
        let mut found = self.amiss();
        wait_until(Duration::from_secs(20), || {
            found = self.amiss();
            found.is_empty()
        });
        found
    }

    fn amiss(&self) -> Vec<String> {
        let told = self.server.told();
        let mut found = Vec::new();
        let begun = told.asked.iter().filter(|code| **code > 0).count();
        let mut ends: BTreeMap<u64, usize> = BTreeMap::new();
        told.reloads.iter().for_each(|(_, _, generation)| *ends.entry(*generation).or_default() += 1);
        if ends.len() != begun || ends.values().any(|count| *count != 1) {
            found.push(format!("{begun} reloads were begun and have ended so often: {ends:?}"));
        }
        let mut slots: BTreeMap<u64, usize> = BTreeMap::new();
        let living = told.workers.iter().filter(|(_, worker)| worker.ended.is_none());
        for (id, worker) in living {
            *slots.entry(worker.slot.unwrap_or(u64::MAX)).or_default() += 1;
            if worker.listening.is_none() {
                found.push(format!("worker {id} does not listen"));
            }
            let of = |(outcome, _, generation): &&(String, String, u64)| {
                Some(*generation) == worker.generation && matches!(outcome.as_str(), "refused" | "rolled-back")
            };
            if let Some((outcome, ..)) = told.reloads.iter().find(of) {
                found.push(format!("worker {id} is of generation {:?}, which was {outcome}", worker.generation));
            }
        }
        let wanted: BTreeMap<u64, usize> = (0..self.slots).map(|slot| (slot, 1)).collect();
        if slots != wanted {
            found.push(format!("of {} slots these have so many workers: {slots:?}", self.slots));
        }
        found
    }
}
