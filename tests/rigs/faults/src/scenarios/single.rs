//! One fault at a time: how soon has every worker its turn again?

use std::time::Duration;

use cluster_bench::error::Result;
use cluster_bench::page::number;

use super::{Rig, begin, go_on_for, milliseconds, split};
use crate::client::Load;
use crate::clock::{self, MS, ms, wait_until};
use crate::contender::Contender;
use crate::harm::{Harmed, Shortage};
use crate::report::RECOVERY;
use crate::server::{Server, Shape};

const FAULTS: [&str; 8] =
    ["killed", "stopped", "computing", "worker short", "primary short", "replaced", "left", "resized"];

/// What was promised is half a second; whoever is not back after this will not come.
const NEVER: Duration = Duration::from_secs(4);

struct After {
    /// From the end of the fault to every worker's first connection; None: never.
    recovery: Option<f64>,
    spread: u64,
}

pub fn run(rig: &mut Rig, contender: Contender) -> Result<()> {
    let mut worst: Option<(f64, &str)> = Some((0.0, "none"));
    let mut spreads = Vec::new();
    for fault in FAULTS {
        let After { recovery, spread } = one(rig, contender, fault)?;
        match (recovery, &mut worst) {
            (None, worst) => *worst = None,
            (Some(ms), Some(kept)) if ms > kept.0 => *kept = (ms, fault),
            _ => {}
        }
        let text = recovery.map_or("never".into(), milliseconds);
        rig.row(contender, &format!("{fault}: back, ms"), text, "<= 500", recovery.is_some_and(|ms| ms <= 500.0));
        if recovery.is_none() {
            rig.breach(contender, &format!("{fault}: a worker never got its turn again"));
        }
        spreads.push((spread, fault));
    }
    let text = worst.map_or("never".into(), |(ms, _)| milliseconds(ms));
    rig.row(contender, RECOVERY, text, "<= 500", worst.is_some_and(|(ms, _)| ms <= 500.0));
    if contender.is_in_turns() {
        let (spread, fault) = spreads.into_iter().max().unwrap_or((0, "none"));
        let connections = number(connections(rig, contender) as f64, 0);
        let row = format!("the next {connections} connections, 500 ms later: most and least of a worker differ by");
        let by = if spread > 1 { format!("{spread} ({fault})") } else { spread.to_string() };
        rig.row(contender, &row, by, "<= 1", spread <= 1);
    }
    Ok(())
}

fn connections(rig: &Rig, contender: Contender) -> u64 {
    if rig.quick || !contender.is_c() { 200 } else { 1000 }
}

fn one(rig: &mut Rig, contender: Contender, fault: &str) -> Result<After> {
    let shape = Shape { busy_ms: 500, ..Shape::default() };
    let mut server = Server::start(rig.shop, contender, shape)?;
    let rate = if contender.is_c() { 500.0 } else { 200.0 };
    let running = begin(&server, Load::new(0, rate))?;
    let mut harmed = Harmed::default();
    let done = inflict(&mut server, fault, &mut harmed);
    let end = clock::now();
    let mut recovery = None;
    wait_until(NEVER, || {
        recovery = recovered(&server, end);
        recovery.is_some()
    });
    go_on_for(&running, 50);
    let entries = running.finish()?;
    done?;
    rig.judge(&server, &entries, &harmed, fault)?;
    let since = Duration::from_nanos(clock::now() - end);
    std::thread::sleep(Duration::from_millis(500).saturating_sub(since));
    let connections = connections(rig, contender);
    let mut spread = 0;
    if contender.is_in_turns() {
        spread = split(&server, connections, rate, 1 << 40)?;
        let mut again = spread;
        // Of a machine that is busy with other things a second and a third look are asked before it counts as broken.
        for attempt in 2..=3 {
            if again > 1 {
                again = split(&server, connections, rate, attempt << 40)?;
            }
        }
        if again > 1 && recovery.is_some() {
            rig.breach(contender, &format!("{fault}: turns differ by {again} afterwards"));
        }
    }
    if let Err(error) = server.stop() {
        rig.breach(contender, &format!("{fault}: {error}"));
    }
    Ok(After { recovery, spread })
}

/// Does it and returns at its end; a worker that was killed is to be there again by then.
fn inflict(server: &mut Server, fault: &str, harmed: &mut Harmed) -> Result<()> {
    let Some((id, worker)) = server.serving().get(1).copied() else { return Ok(()) };
    let workers = server.shape.workers;
    let limit = Duration::from_secs(10);
    let length = Duration::from_millis(500);
    match fault {
        "killed" => {
            harmed.kill(worker.pid);
            wait_until(limit, || server.told().workers.get(&id).is_some_and(|worker| worker.ended.is_some()));
            server.await_serving(workers, limit);
        }
        "stopped" => {
            harmed.stop(worker.pid);
            std::thread::sleep(length);
            harmed.go_on(worker.pid);
        }
        "computing" => {
            harmed.keep_busy(worker.pid, server.shape.busy_ms);
            std::thread::sleep(length);
        }
        "worker short" | "primary short" => {
            let pid = if fault == "worker short" { worker.pid } else { server.primary().as_raw() as u32 };
            let shortage = Shortage::of(pid)?;
            std::thread::sleep(length);
            shortage.end()?;
        }
        "replaced" => {
            server.command(&format!("replace {id}"))?;
            wait_until(limit, || server.told().replaced.contains(&id));
        }
        "left" => {
            server.command(&format!("disconnect {id}"))?;
            wait_until(limit, || server.told().workers.get(&id).is_some_and(|worker| worker.ended.is_some()));
            server.await_serving(workers, limit);
        }
        _ => {
            server.command(&format!("resize {}", workers / 2))?;
            server.await_serving(workers / 2, limit);
            server.command(&format!("resize {workers}"))?;
            server.await_serving(workers, limit);
        }
    }
    Ok(())
}

/// When all that serve now have taken a connection after the fault: how long after it the last of them did.
fn recovered(server: &Server, end: u64) -> Option<f64> {
    let claims = server.claims().ok()?;
    let first =
        |pid: u32| claims.iter().filter(|claim| claim.pid == pid && claim.time >= end).map(|claim| claim.time).min();
    let serving = server.serving();
    if serving.len() < server.shape.workers {
        return None;
    }
    let firsts: Option<Vec<u64>> = serving.iter().map(|(_, worker)| first(worker.pid)).collect();
    // The turns themselves take a moment at a low rate.
    let last = firsts?.into_iter().max()?;
    Some(ms(last.saturating_sub(end).max(MS / 10)))
}
