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
    contenders: &["single", "reuseport", "none", "passed", "kernel", "rotation", "node-rr"],
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
        "cluster-rs-rotation",
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
        measure("cpu", "CPU per connection, 64 outstanding", "us", 2, How::Ratio),
        measure("primary", "of that the primary's", "us", 2, How::Median),
        measure("runs", "times a process was given a CPU, per connection", "", 2, How::Median),
        measure("drain-cpu", "CPU per connection, draining a queue", "us", 2, How::Ratio),
        measure("drain-runs", "times given a CPU, draining", "", 2, How::Median),
        measure("drain", "drained", "connections/s", 0, How::Ratio).more_is_better(),
        measure("latency", "connect to first packet at low load, p50", "us", 1, How::Ratio),
    ]
}

fn round(round: &mut Round) -> Result<()> {
    let plan = round.plan;
    let mut server = Server::start(round.shop, round.contender, Shape::workers(WORKERS))?;
    let target = server.target();
    target.ring(plan.warm, OUTSTANDING, |_| ())?;

    let counts = server.counts()?;
    let before = server.used()?;
    target.ring(plan.connections, OUTSTANDING, |_| ())?;
    let each = server.used()?.since(before, plan.connections);
    server.check_served(&counts, plan.connections as u64)?;
    round.note("cpu", each.all());
    round.note("primary", each.primary);
    round.note("runs", each.runs);

    let counts = server.counts()?;
    let drained = plan.queue * plan.drains;
    let mut seconds = 0.0;
    let (mut used, mut runs) = (0.0, 0.0);
    for _ in 0..plan.drains {
        process::stop(&server.pids)?;
        let queue = target.queue(plan.queue)?;
        let before = server.used()?;
        let begin = Instant::now();
        process::go_on(&server.pids);
        target.await_all(&queue)?;
        seconds += begin.elapsed().as_secs_f64();
        let each = server.used()?.since(before, drained);
        used += each.all();
        runs += each.runs;
    }
    server.check_served(&counts, drained as u64)?;
    round.note("drain-cpu", used);
    round.note("drain-runs", runs);
    round.note("drain", drained as f64 / seconds);

    let counts = server.counts()?;
    let taken = target.probe(plan.probes, GAP)?;
    server.check_served(&counts, plan.probes as u64)?;
    if let Some(Spread { median, .. }) = Spread::of(&taken) {
        round.note("latency", median);
    }
    server.stop()
}
