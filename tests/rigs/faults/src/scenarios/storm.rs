//! Kills, one after the other: what is lost but what the dead had in hand?

use std::time::Duration;

use cluster_bench::error::Result;
use cluster_bench::page::number;

use super::{Rig, milliseconds, quantile, under_load};
use crate::chaos::{execute, storm};
use crate::client::Load;
use crate::clock::ms;
use crate::contender::Contender;
use crate::harm::Harmed;
use crate::invariants::Watch;
use crate::oracle::{Entry, Harm, Outcome, Verdict};
use crate::report::HUNG;
use crate::server::Shape;

pub fn run(rig: &mut Rig, contender: Contender) -> Result<()> {
    // Others are here for comparison, and take fewer connections.
    let kills = if rig.quick { 20 } else { 300 };
    let count = if rig.quick || !contender.is_c() { 1 } else { rig.seeds.len() };
    let seeds: Vec<u64> = rig.seeds.iter().copied().take(count).collect();
    // `make test` runs on machines that are busy with other things.
    let rate = if rig.quick { contender.rate() / 4.0 } else { contender.rate() };
    let mut all = Verdict::default();
    let (mut dead, mut waits) = (0, Vec::new());
    for seed in &seeds {
        let shape = Shape { grandchildren: contender.is_c(), ..Shape::default() };
        // At most eight workers are replaced in a second; and more would leave no worker in Node the time to start.
        let every = if contender.is_c() { 150 } else { 250 };
        let kills = if contender.is_c() { kills } else { kills.min(100) };
        let (mut server, running) = under_load(rig, contender, shape, Load::new(0, rate))?;
        let (watch, mut harmed) = (Watch::start(server.primary()), Harmed::default());
        let done = execute(&mut server, &storm(*seed, every, kills), &mut harmed);
        let entries = running.finish()?;
        done?;
        if !server.await_serving(shape.workers, Duration::from_secs(10)) {
            rig.breach(
                contender,
                &format!("seed {seed}: {} of {} workers serve", server.serving().len(), shape.workers),
            );
        }
        let verdict = rig.judge(&server, &entries, &harmed, &format!("seed {seed}"))?;
        for breach in watch.finish().breaches() {
            rig.breach(contender, &format!("seed {seed}: {breach}"));
        }
        dead += harmed.kills() as u64;
        waits.extend(redelivered(&entries, &harmed));
        all.add(verdict);
        if let Err(error) = server.stop() {
            rig.breach(contender, &format!("seed {seed}: {error}"));
        }
    }
    let runs = format!("{dead} kills, {} connections", number(all.requests as f64, 0));
    rig.row(contender, &format!("lost, taken by nobody ({runs})"), all.lost().to_string(), "0", all.lost() == 0);
    let hung = number(all.hung as f64 * 1e4 / all.requests.max(1) as f64, 1);
    rig.row(contender, HUNG, hung.replace(".0", ""), "0", all.hung == 0);
    rig.row(contender, "taken by two", all.twice.to_string(), "0", all.twice == 0);
    rig.row(contender, "refused", all.refused.to_string(), "0", all.refused == 0);
    // Between accept and its first line of JavaScript a connection is in the hands of Node for most of a millisecond, however it
    // came there: with stock Node and SCHED_NONE as many are lost.
    let few = !contender.is_c() || all.unclaimed * 100 <= dead;
    let goal = if contender.is_c() { "<= 1 per 100 kills" } else { "" };
    if !few && !rig.quick {
        rig.breach(contender, &format!("{} of {dead} kills cost a connection that nobody had claimed", all.unclaimed));
    }
    rig.row(contender, "lost between accept and the claim", all.unclaimed.to_string(), goal, few);
    rig.row(contender, "cut in the dead worker's hand", all.in_hand.to_string(), "", true);
    let wait = quantile(&mut waits, 0.99);
    rig.row(contender, "answered after a kill it had waited for, p99, ms", milliseconds(wait), "<= 20", wait <= 20.0);
    Ok(())
}

/// How long after a kill those were answered, in milliseconds, that were under way at that moment.
fn redelivered(entries: &[Entry], harmed: &Harmed) -> Vec<f64> {
    let mut deaths: Vec<u64> =
        harmed.windows.iter().filter(|window| window.harm == Harm::Killed).map(|window| window.begin).collect();
    deaths.sort_unstable();
    let answered = entries.iter().filter(|entry| matches!(entry.outcome, Outcome::Answered { .. }));
    let waits = answered.filter_map(|entry| {
        let next = deaths.get(deaths.partition_point(|death| *death < entry.begun))?;
        (*next <= entry.ended).then(|| ms(entry.ended - next))
    });
    waits.collect()
}
