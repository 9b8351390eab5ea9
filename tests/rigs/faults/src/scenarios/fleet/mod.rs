//! The library replaces workers while clients come.

pub mod recycles;
pub mod refusals;
pub mod rest;
pub mod scales;
pub mod sequences;
pub mod slots;

use std::time::Duration;

use cluster_bench::error::{Result, fail};
use cluster_bench::page::number;

use super::{Rig, under_load};
use crate::client::Load;
use crate::clock::wait_until;
use crate::contender::Contender;
use crate::harm::Harmed;
use crate::oracle::Verdict;
use crate::server::{Server, Shape};

const PATIENCE: Duration = Duration::from_secs(60);

/// Connections per second; in `make test`, on a machine that is busy with other things, less. Workers in Node that are started all the time
/// leave a small machine not much to serve with.
fn rate(rig: &Rig, contender: Contender) -> f64 {
    match (rig.quick, contender.is_c()) {
        (true, _) => contender.rate() / 4.0,
        (false, true) => 1500.0,
        (false, false) => contender.rate(),
    }
}

/// How a reload is asked for.
struct Asked<'a> {
    parallel: u64,
    /// How long a new worker has to live, and how long it has to become ready, milliseconds.
    min_ready: u64,
    ready_timeout: u64,
    fate: &'a str,
}

/// Reloads and waits for the end: its outcome, and the reason.
fn reload(server: &mut Server, asked: &Asked<'_>) -> Result<(String, String)> {
    let before = server.told().reloads.len();
    let Asked { parallel, min_ready, ready_timeout, fate } = asked;
    server.command(&format!("reload {parallel} {min_ready} {ready_timeout} {fate}"))?;
    if !wait_until(PATIENCE, || server.told().reloads.len() > before || server.told().silent) {
        return fail("a reload does not end");
    }
    let ended = server.told().reloads.get(before).cloned();
    ended.map_or_else(|| fail("the primary has ended"), |(outcome, why, _)| Ok((outcome, why)))
}

/// What clients have noticed.
fn tell_lost(rig: &mut Rig, contender: Contender, what: &str, verdict: &Verdict) {
    let Verdict { refused, hung, requests, .. } = verdict;
    // Whoever hangs in the hand of one that was held up is no breach; nobody is held up here.
    let lost = verdict.breaches.len() as u64 - refused - hung;
    let measured = format!("{lost} / {refused} / {hung} of {}", number(*requests as f64, 0));
    let row = format!("{what}: lost or taken by two / refused / hung");
    rig.row(contender, &row, measured, "0 / 0 / 0", verdict.breaches.is_empty());
}

/// It ends in order, and leaves nothing.
fn end(rig: &mut Rig, contender: Contender, server: Server) {
    if let Err(error) = server.stop() {
        rig.breach(contender, &error.to_string());
    }
}

/// All workers are replaced, time after time.
pub fn run(rig: &mut Rig, contender: Contender) -> Result<()> {
    let reloads = if rig.quick { 4 } else { 100 };
    for parallel in [1, 4] {
        let shape = Shape { fleet: true, looping: parallel == 4, ..Shape::default() };
        let (mut server, running) = under_load(rig, contender, shape, Load::new(0, rate(rig, contender)))?;
        let asked = Asked { parallel, min_ready: 100, ready_timeout: 10_000, fate: "good" };
        for done in 0..reloads {
            let (outcome, why) = reload(&mut server, &asked)?;
            if outcome != "done" {
                rig.breach(contender, &format!("reload {done}, {parallel} at a time: {outcome}: {why}"));
            }
            // Of more than there are slots, those who take longest to leave are told to hurry.
            wait_until(PATIENCE, || server.told().living() == shape.workers);
        }
        let entries = running.finish()?;
        let what = format!("{reloads} reloads, {parallel} at a time");
        let verdict = rig.judge(&server, &entries, &Harmed::default(), &what)?;
        tell_lost(rig, contender, &what, &verdict);
        end(rig, contender, server);
    }
    Ok(())
}
