//! Kills, stops, computing workers, missing descriptors, replacements and other numbers of workers, by chance.

use std::time::Duration;

use cluster_bench::error::Result;
use cluster_bench::page::number;

use super::{Rig, split, under_load};
use crate::chaos::{execute, mixed};
use crate::client::Load;
use crate::clock::wait_until;
use crate::contender::Contender;
use crate::harm::Harmed;
use crate::invariants::{Watch, descriptors, memory};
use crate::oracle::Verdict;
use crate::server::{Server, Shape};

/// Kilobytes: what an allocator may keep of a busy time.
const MEMORY_GROWTH: u64 = 1024;

pub fn run(rig: &mut Rig, contender: Contender) -> Result<()> {
    let count = match (rig.quick, contender.is_in_turns()) {
        (true, _) => 1,
        (false, true) => rig.seeds.len(),
        (false, false) => 3,
    };
    let seeds: Vec<u64> = rig.seeds.iter().copied().take(count).collect();
    let length = if rig.quick { 3000 } else { 5000 };
    let mut all = Verdict::default();
    let (mut steps_done, mut most_memory, mut descriptors_left) = (0, 0, 0i64);
    for seed in &seeds {
        let shape = Shape { grandchildren: true, ..Shape::default() };
        let steps = mixed(*seed, length, shape.workers as u64);
        let (mut server, running) =
            under_load(rig, contender, shape, Load::new(0, if rig.quick { 500.0 } else { contender.rate() / 2.0 }))?;
        let (watch, mut harmed) = (Watch::start(server.primary()), Harmed::default());
        let before = (descriptors(server.primary()), memory(server.primary()));
        let done = execute(&mut server, &steps, &mut harmed);
        let entries = running.finish()?;
        done?;
        steps_done += steps.len();
        let what = format!("seed {seed}");
        all.add(rig.judge(&server, &entries, &harmed, &what)?);
        for breach in watch.finish().breaches() {
            rig.breach(contender, &format!("{what}: {breach}"));
        }
        recovers(rig, contender, &server, &what)?;
        // Every slot that there ever was may keep its socket and its mailbox for a successor.
        let slots = 4 * 5;
        let at_rest = wait_until(Duration::from_secs(3), || descriptors(server.primary()) <= before.0 + slots);
        if !at_rest {
            let now = descriptors(server.primary());
            rig.breach(contender, &format!("{what}: the primary has {now} descriptors and had {}", before.0));
        }
        descriptors_left = descriptors_left.max(descriptors(server.primary()) as i64 - before.0 as i64);
        most_memory = most_memory.max(memory(server.primary()).saturating_sub(before.1));
        if let Err(error) = server.stop() {
            rig.breach(contender, &format!("{what}: {error}"));
        }
    }
    let runs = format!("{steps_done} faults, {} connections, {} seeds", number(all.requests as f64, 0), seeds.len());
    rig.row(contender, &format!("lost, taken by nobody ({runs})"), all.lost().to_string(), "0", all.lost() == 0);
    let hung = all.hung - all.hung_in_hand;
    rig.row(contender, "hung for over 2 s, in nobody's hand", hung.to_string(), "0", hung == 0);
    rig.row(contender, "taken by two", all.twice.to_string(), "0", all.twice == 0);
    rig.row(contender, "refused", all.refused.to_string(), "0", all.refused == 0);
    rig.row(contender, "the primary's descriptors afterwards", format!("{descriptors_left:+}"), "", true);
    let grown = most_memory <= MEMORY_GROWTH;
    rig.row(contender, "the primary's memory afterwards, KB", format!("+{most_memory}"), "<= +1024", grown);
    Ok(())
}

/// All workers are back, and each gets its turn again.
fn recovers(rig: &mut Rig, contender: Contender, server: &Server, what: &str) -> Result<()> {
    let workers = server.shape.workers;
    if !server.await_serving(workers, Duration::from_secs(10)) {
        let serving = server.serving().len();
        rig.breach(contender, &format!("{what}: {serving} of {workers} workers serve afterwards"));
        return Ok(());
    }
    if !contender.is_in_turns() {
        return Ok(());
    }
    let mut spread = 0;
    // A machine that is busy with other things may keep one worker from its turn.
    for attempt in 1..=3 {
        spread = split(server, 200, 400.0, 1 << 40 | attempt << 20)?;
        if spread <= 1 {
            return Ok(());
        }
    }
    rig.breach(contender, &format!("{what}: turns differ by {spread} afterwards"));
    Ok(())
}
