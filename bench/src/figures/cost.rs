//! What a connection costs the server, how fast it can serve, and how soon it answers.

use std::time::{Duration, Instant};

use super::{Figure, How, Measure, Round, measure};
use crate::contender::Shape;
use crate::error::Result;
use crate::process;
use crate::results::Spread;
use crate::server::Server;

pub static FIGURE: Figure = Figure {
    name: "cost",
    title: "accept and close, 4 workers",
    baseline: "reuseport",
    contenders: &["single", "reuseport", "none", "passed", "kernel", "node-rr"],
    more: &[
        "shared",
        "exclusive",
        "blocking",
        "reuseport-blocking",
        "handover",
        "passed-least-loaded",
        "kernel-least-loaded",
        "passed-source-hash",
        "kernel-source-hash",
        "libuv",
        "nginx",
        "nginx-reuseport",
        "node-none",
        "cluster-rs-passed",
        "cluster-rs-kernel",
    ],
    rounds: |plan| plan.rounds,
    measures,
    round,
};

const WORKERS: usize = 4;
const OUTSTANDING: usize = 64;
const GAP: Duration = Duration::from_micros(300);

fn measures(_: &crate::plan::Plan) -> Vec<Measure> {
    vec![
        measure("cpu", "server CPU per connection, 64 outstanding", "us", 2, How::Ratio),
        measure("primary", "of that the primary's", "us", 2, How::Median),
        measure("drain-cpu", "server CPU per connection, draining a queue", "us", 2, How::Ratio),
        measure("drain", "drain of a queue built while the server was stopped", "connections/s", 0, How::Ratio),
        measure("latency", "connect to first packet at low load, p50", "us", 1, How::Ratio),
    ]
}

fn round(round: &mut Round) -> Result<()> {
    let plan = round.plan;
    let mut server = Server::start(round.shop, round.contender, Shape::workers(WORKERS))?;
    let target = server.target();
    target.ring(plan.warm, OUTSTANDING, |_| ())?;

    let counts = server.counts()?;
    let before = server.cpu()?;
    target.ring(plan.connections, OUTSTANDING, |_| ())?;
    let after = server.cpu()?;
    server.check_served(&counts, plan.connections as u64)?;
    let each = |before: f64, after: f64, count: usize| (after - before) / count as f64;
    round.note("cpu", each(before.0 + before.1, after.0 + after.1, plan.connections));
    round.note("primary", each(before.0, after.0, plan.connections));

    let counts = server.counts()?;
    let mut seconds = 0.0;
    let mut used = 0.0;
    for _ in 0..plan.drains {
        process::stop(&server.pids)?;
        let queue = target.queue(plan.queue)?;
        let before = server.cpu()?;
        let begin = Instant::now();
        process::go_on(&server.pids);
        target.await_all(&queue)?;
        seconds += begin.elapsed().as_secs_f64();
        let after = server.cpu()?;
        used += after.0 + after.1 - before.0 - before.1;
    }
    let drained = plan.queue * plan.drains;
    server.check_served(&counts, drained as u64)?;
    round.note("drain-cpu", used / drained as f64);
    round.note("drain", drained as f64 / seconds);

    let counts = server.counts()?;
    let taken = target.probe(plan.probes, GAP)?;
    server.check_served(&counts, plan.probes as u64)?;
    if let Some(Spread { median, .. }) = Spread::of(&taken) {
        round.note("latency", median);
    }
    server.stop()
}
