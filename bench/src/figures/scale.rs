//! How the cost of a connection and the start grow with workers and with addresses.

use super::{Figure, How, Measure, Round, measure};
use crate::contender::Shape;
use crate::error::Result;
use crate::server::Server;

pub static FIGURE: Figure = Figure {
    name: "scale",
    title: "more workers (1 address), more addresses (4 workers, each with an event loop)",
    baseline: "reuseport",
    contenders: &["reuseport", "passed", "kernel", "rotation"],
    more: &["none"],
    rounds: |plan| plan.rounds,
    measures,
    round,
};

fn measures(plan: &crate::plan::Plan) -> Vec<Measure> {
    let each = |counts: &[usize], of: &str| -> Vec<Measure> {
        let cpu =
            |n: &usize| measure(format!("cpu {of}={n}"), format!("CPU per connection, {n} {of}"), "us", 2, How::Ratio);
        let start = |n: &usize| measure(format!("start {of}={n}"), format!("start, {n} {of}"), "ms", 1, How::Ratio);
        counts.iter().map(cpu).chain(counts.iter().map(start)).collect()
    };
    [each(plan.worker_counts, "workers"), each(plan.address_counts, "addresses")].into_iter().flatten().collect()
}

fn round(round: &mut Round) -> Result<()> {
    let plan = round.plan;
    for workers in plan.worker_counts {
        point(round, &format!("workers={workers}"), Shape::workers(*workers))?;
    }
    for addresses in plan.address_counts {
        let shape = Shape { addresses: *addresses, event_loop: true, ..Shape::workers(4) };
        point(round, &format!("addresses={addresses}"), shape)?;
    }
    Ok(())
}

fn point(round: &mut Round, name: &str, shape: Shape) -> Result<()> {
    let mut server = Server::start(round.shop, round.contender, shape)?;
    let target = server.target();
    target.ring(round.plan.warm, 64, |_| ())?;
    let counts = server.counts()?;
    let before = server.used()?;
    target.ring(round.plan.connections, 64, |_| ())?;
    let each = server.used()?.since(before, round.plan.connections);
    server.check_served(&counts, round.plan.connections as u64)?;
    round.note(&format!("cpu {name}"), each.all());
    round.note(&format!("start {name}"), server.started_in.as_secs_f64() * 1e3);
    server.stop()
}
