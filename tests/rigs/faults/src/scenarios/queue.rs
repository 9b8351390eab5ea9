//! Connections that nobody has taken: behind a worker that dies, while there is no worker, and more than anybody can take.

use std::time::Duration;

use cluster_bench::error::{Result, fail};
use cluster_bench::page::number;

use super::{Rig, milliseconds, under_load};
use crate::client::{Load, Running};
use crate::clock::{SECOND, ms, wait_until};
use crate::contender::Contender;
use crate::harm::Harmed;
use crate::invariants::{descriptors, memory};
use crate::oracle::Outcome;
use crate::server::{Server, Shape};

pub fn run(rig: &mut Rig, contender: Contender) -> Result<()> {
    behind_the_dead(rig, contender)?;
    nobody_there(rig, contender)?;
    too_many(rig, contender)
}

/// So many connections at once, which wait.
fn pile_up(server: &Server, connections: u64) -> Result<Running> {
    let patience = Duration::from_secs(30);
    let running = Load { patience, ..Load::new(server.port, 20_000.0).count(connections) }.start()?;
    if !wait_until(Duration::from_secs(20), || running.sent() == connections) {
        return fail("the client cannot make its connections");
    }
    Ok(running)
}

fn stop_all(server: &Server, harmed: &mut Harmed) -> Result<Vec<u32>> {
    let pids: Vec<u32> = server.serving().iter().map(|(_, worker)| worker.pid).collect();
    pids.iter().for_each(|pid| harmed.stop(*pid));
    let stopped: Vec<_> = pids.iter().map(|pid| nix::unistd::Pid::from_raw(*pid as i32)).collect();
    cluster_bench::process::stop(&stopped)?;
    Ok(pids)
}

fn behind_the_dead(rig: &mut Rig, contender: Contender) -> Result<()> {
    let connections = 400;
    let server = Server::start(rig.shop, contender, Shape { workers: 2, ..Shape::default() })?;
    let mut harmed = Harmed::default();
    let pids = stop_all(&server, &mut harmed)?;
    let running = pile_up(&server, connections)?;
    harmed.kill(pids[0]);
    harmed.go_on(pids[1]);
    let entries = running.finish()?;
    let verdict = rig.judge(&server, &entries, &harmed, "a queue whose worker dies")?;
    let lost = connections - verdict.answered;
    rig.row(contender, "400 wait and one of two workers dies: lost", lost.to_string(), "0", lost == 0);
    server.stop()
}

fn nobody_there(rig: &mut Rig, contender: Contender) -> Result<()> {
    let gap = if rig.quick { 600 } else { 3000 };
    let shape = Shape { workers: 2, gap_ms: gap, ..Shape::default() };
    let load = Load { patience: Duration::from_secs(10), ..Load::new(0, 100.0) };
    let (server, running) = under_load(rig, contender, shape, load)?;
    let mut harmed = Harmed::default();
    let before: Vec<u64> = server.serving().iter().map(|(id, _)| *id).collect();
    server.serving().iter().for_each(|(_, worker)| harmed.kill(worker.pid));
    let is_new = |(id, _): &&(u64, crate::server::Worker)| !before.contains(id);
    let came = wait_until(Duration::from_secs(15), || server.serving().iter().filter(is_new).count() == 2);
    let entries = running.finish()?;
    if !came {
        return fail("the workers were not replaced");
    }
    let verdict = rig.judge(&server, &entries, &harmed, "no worker there")?;
    let back = server.serving().iter().filter(is_new).filter_map(|(_, worker)| worker.listening).min().unwrap_or(0);
    let waited = entries.iter().filter(|entry| entry.begun < back && entry.ended > back);
    let longest = waited.map(|entry| ms(entry.ended - back)).fold(0.0, f64::max);
    let row = format!("no worker for {} ms at 100 connections a second: refused or lost", number(gap as f64, 0));
    let lost = verdict.requests - verdict.answered - verdict.in_hand;
    rig.row(contender, &row, lost.to_string(), "0", lost == 0);
    let row = "the last of those who waited was answered after the first worker listened, ms";
    rig.row(contender, row, milliseconds(longest), "<= 1,000", longest <= ms(SECOND));
    server.stop()
}

fn too_many(rig: &mut Rig, contender: Contender) -> Result<()> {
    // What the kernel keeps is the backlog that the machine allows.
    let most =
        std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap_or_default().trim().parse().unwrap_or(4096);
    let connections = if rig.quick { 1000 } else { u64::min(15_000, most) };
    let server = Server::start(rig.shop, contender, Shape { backlog: most as u32, ..Shape::default() })?;
    let mut harmed = Harmed::default();
    // What the first connection of all costs is no leak.
    Load::new(server.port, 1000.0).count(100).run()?;
    server.forget_claims()?;
    let pids = stop_all(&server, &mut harmed)?;
    let before = (descriptors(server.primary()), memory(server.primary()));
    let running = pile_up(&server, connections)?;
    let (mut fds, mut kilobytes) = (0, 0);
    wait_until(Duration::from_millis(500), || {
        fds = fds.max(descriptors(server.primary()).saturating_sub(before.0));
        kilobytes = kilobytes.max(memory(server.primary()).saturating_sub(before.1));
        false
    });
    pids.iter().for_each(|pid| harmed.go_on(*pid));
    let entries = running.finish()?;
    let verdict = rig.judge(&server, &entries, &harmed, "more than anybody takes")?;
    let lost = entries.iter().filter(|entry| !matches!(entry.outcome, Outcome::Answered { .. })).count();
    let all = number(connections as f64, 0);
    rig.row(
        contender,
        &format!("{all} wait for stopped workers: lost"),
        lost.to_string(),
        "0",
        lost == 0 && verdict.breaches.is_empty(),
    );
    rig.row(contender, "the primary's descriptors meanwhile", format!("+{fds}"), "<= +8", fds <= 8);
    rig.row(contender, "the primary's memory meanwhile, KB", format!("+{kilobytes}"), "<= +1024", kilobytes <= 1024);
    if fds > 8 || kilobytes > 1024 {
        rig.breach(contender, &format!("{all} that wait cost the primary {fds} descriptors and {kilobytes} KB"));
    }
    server.stop()
}

/// Eight workers become two and eight again.
pub fn resize(rig: &mut Rig, contender: Contender) -> Result<()> {
    let rounds = if rig.quick { 2 } else { 10 };
    let shape = Shape { workers: 8, ..Shape::default() };
    let (mut server, running) = under_load(rig, contender, shape, Load::new(0, contender.rate()))?;
    for workers in [2, 8].into_iter().cycle().take(2 * rounds) {
        server.command(&format!("resize {workers}"))?;
        if !server.await_serving(workers, Duration::from_secs(15)) {
            return fail(format!("{} workers serve instead of {workers}", server.serving().len()));
        }
        super::go_on_for(&running, 200);
    }
    let entries = running.finish()?;
    let verdict = rig.judge(&server, &entries, &Harmed::default(), "8 to 2 and back")?;
    let lost = verdict.requests - verdict.answered;
    let row =
        format!("8 workers to 2 and back, {rounds} times, {} connections: lost", number(verdict.requests as f64, 0));
    rig.row(contender, &row, lost.to_string(), "0", lost == 0);
    server.stop()
}
