//! What a worker that does nothing weighs, and what connections weigh that wait.

use super::{Figure, How, Measure, Round, measure};
use crate::contender::Shape;
use crate::error::Result;
use crate::process;
use crate::server::Server;

pub static FIGURE: Figure = Figure {
    name: "memory",
    title: "4 idle workers; connections that wait because no worker accepts",
    baseline: "reuseport",
    contenders: &["reuseport", "passed", "kernel", "rotation"],
    more: &["none", "libuv", "node-rr", "cluster-rs-passed", "cluster-rs-kernel", "cluster-rs-rotation"],
    rounds: |plan| plan.trials.min(3),
    measures,
    round,
};

/// One backlog holds at most net.core.somaxconn connections, usually 4096.
const ADDRESSES: usize = 3;
/// Two pages more or less in a process come and go.
const PAGES_KB: f64 = 8.0;
/// What the primary keeps for each waiting connection is more than this if it keeps anything.
const NOTHING_KB: f64 = 0.01;

fn measures(plan: &crate::plan::Plan) -> Vec<Measure> {
    let waiting = |what: &str| format!("{} waiting: {what}", crate::report::number(plan.waiting as f64, 0));
    vec![
        measure("worker", "idle worker, private memory", "kB", 0, How::Ratio).grain(PAGES_KB),
        measure("primary", "primary, private memory", "kB", 0, How::Median).grain(PAGES_KB),
        measure("waiting", waiting("more private memory in the primary"), "kB", 0, How::Median)
            .grain(NOTHING_KB * plan.waiting as f64),
        measure("descriptors", waiting("more descriptors in the primary"), "", 0, How::Largest),
        measure("kernel", waiting("more memory in the kernel, each (both ends)"), "kB", 1, How::Median),
    ]
}

fn round(round: &mut Round) -> Result<()> {
    let server = Server::start(round.shop, round.contender, Shape::workers(4))?;
    let workers: Vec<f64> = server.pids[1..].iter().map(|pid| process::private_memory(*pid)).collect::<Result<_>>()?;
    round.note("worker", workers.iter().copied().fold(0.0, f64::max));
    round.note("primary", process::private_memory(server.pids[0])?);
    server.stop()?;

    if !round.contender.is_in_c() {
        return Ok(());
    }
    let shape = Shape { addresses: ADDRESSES, held: true, event_loop: true, ..Shape::workers(4) };
    let mut server = Server::start(round.shop, round.contender, shape)?;
    let counts = server.counts()?;
    let memory = process::private_memory(server.pids[0])?;
    let descriptors = process::descriptors(server.pids[0])?;
    let slab = process::slab();
    let queue = server.target().queue(round.plan.waiting)?;
    round.note("waiting", process::private_memory(server.pids[0])? - memory);
    round.note("descriptors", process::descriptors(server.pids[0])? - descriptors);
    round.note("kernel", (process::slab() - slab) / queue.len() as f64);
    server.board.hold(false);
    server.target().await_all(&queue)?;
    server.check_served(&counts, queue.len() as u64)?;
    drop(queue);
    server.stop()
}
