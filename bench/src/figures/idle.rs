//! How often an idle cluster wakes: once it has served something and then rested.

use std::thread::sleep;
use std::time::Duration;

use super::{Figure, How, Measure, Round, measure};
use crate::contender::Shape;
use crate::error::Result;
use crate::server::Server;

pub static FIGURE: Figure = Figure {
    name: "idle",
    title: "an idle cluster of 4 workers, 10 s after it has rested for 5 s (a quick run: 2 s and 1 s)",
    baseline: "reuseport",
    contenders: &["reuseport", "none", "passed", "kernel", "rotation", "node-rr"],
    more: &[
        "passed-least-loaded",
        "kernel-least-loaded",
        "nginx",
        "node-none",
        "cluster-rs-passed",
        "cluster-rs-kernel",
        "cluster-rs-rotation",
        "cluster-rs",
    ],
    rounds: |plan| plan.trials.min(2),
    measures,
    round,
};

fn measures(_: &crate::plan::Plan) -> Vec<Measure> {
    vec![
        measure(
            "wakes",
            "wake-ups of all processes a second, of workers that block and of those with an event loop",
            "",
            1,
            How::Largest,
        ),
        measure("primary", "workers that block: wake-ups of the primary a second", "", 1, How::Largest),
        measure("workers", "workers that block: wake-ups of all workers a second", "", 1, How::Largest),
        measure("loop-primary", "workers with an event loop: wake-ups of the primary a second", "", 1, How::Largest),
        measure("loop-workers", "workers with an event loop: wake-ups of all workers a second", "", 1, How::Largest),
        measure("cpu", "CPU of all processes, both kinds", "us/s", 0, How::Median),
    ]
}

fn round(round: &mut Round) -> Result<()> {
    let plan = round.plan;
    // Only workers in C can be had without an event loop.
    let blocking = Shape::workers(4);
    let in_a_loop = Shape { event_loop: true, ..blocking };
    let kinds =
        if round.contender.is_in_c() { vec![("", blocking), ("loop-", in_a_loop)] } else { vec![("loop-", blocking)] };
    let mut servers = Vec::new();
    for (kind, shape) in kinds {
        let server = Server::start(round.shop, round.contender, shape)?;
        server.target().ring(plan.warm, 64, |_| ())?;
        servers.push((kind, server));
    }
    sleep(Duration::from_secs_f64(plan.rest_seconds));
    let before: Vec<_> = servers.iter().map(|(_, server)| server.used()).collect::<Result<_>>()?;
    sleep(Duration::from_secs_f64(plan.idle_seconds));
    let (mut cpu, mut wakes) = (0.0, 0.0);
    for ((kind, server), before) in servers.into_iter().zip(before) {
        let each = server.used()?.per(before, plan.idle_seconds);
        round.note(&format!("{kind}primary"), each.primary_wakes);
        round.note(&format!("{kind}workers"), each.worker_wakes);
        cpu += each.all();
        wakes += each.primary_wakes + each.worker_wakes;
        server.stop()?;
    }
    round.note("cpu", cpu);
    round.note("wakes", wakes);
    Ok(())
}
