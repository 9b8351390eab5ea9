//! How often the primary, and how often anybody, is woken for a request that comes when there is little to do.

use std::time::Duration;

use super::{Figure, How, Measure, Round, measure};
use crate::arrivals::{Arrivals, Pace};
use crate::client::HTTP;
use crate::contender::Shape;
use crate::error::{Result, fail};
use crate::server::Server;

pub static FIGURE: Figure = Figure {
    name: "wakes",
    title: "10 to 1,000 requests a second, each on a connection of its own, workers with an event loop",
    baseline: "reuseport",
    contenders: &["reuseport", "none", "passed", "kernel", "rotation"],
    more: &[
        "exclusive",
        "nginx",
        "node-rr",
        "node-none",
        "cluster-rs-passed",
        "cluster-rs-kernel",
        "cluster-rs-rotation",
    ],
    rounds: |plan| plan.trials.min(3),
    measures,
    round,
};

/// More processes of Node are too many for a small machine.
const MOST_IN_NODE: usize = 16;
/// Before it is measured.
const WARM: f64 = 500.0;

fn measures(plan: &crate::plan::Plan) -> Vec<Measure> {
    let mut measures = Vec::new();
    for workers in plan.wakes_workers {
        for rate in plan.wakes_rates {
            let of = |what: &str, title: &str, unit, digits| {
                let title = format!("{workers} workers, {rate} a second: {title} per request");
                measure(format!("{what} {workers} {rate}"), title, unit, digits, How::Median)
            };
            measures.push(of("wakes", "wake-ups of the primary", "", 2).grain(0.05));
            measures.push(of("cpu", "CPU of the primary", "us", 1));
            measures.push(of("all", "wake-ups of all processes", "", 2).grain(0.05));
        }
    }
    measures
}

fn round(round: &mut Round) -> Result<()> {
    let plan = round.plan;
    for workers in plan.wakes_workers.iter().filter(|count| **count <= MOST_IN_NODE || round.contender.is_in_c()) {
        let shape = Shape { http: true, ..Shape::workers(*workers) };
        let mut server = Server::start(round.shop, round.contender, shape)?;
        requests(&mut server, WARM, 0.2, 0)?;
        for rate in plan.wakes_rates {
            let counts = server.counts()?;
            let before = server.used()?;
            let made = requests(&mut server, *rate as f64, plan.wakes_seconds, round.number as u64 + 1)?;
            let each = server.used()?.since(before, made as usize);
            server.check_served(&counts, made)?;
            let name = format!("{workers} {rate}");
            round.note(&format!("wakes {name}"), each.primary_wakes);
            round.note(&format!("cpu {name}"), each.primary);
            round.note(&format!("all {name}"), each.primary_wakes + each.worker_wakes);
        }
        server.stop()?;
    }
    Ok(())
}

fn requests(server: &mut Server, rate: f64, seconds: f64, seed: u64) -> Result<u64> {
    let arrivals = Arrivals {
        port: server.ports[0],
        pace: Pace::PerSecond(rate),
        kept: None,
        request: &|_| HTTP,
        warm: Duration::ZERO,
        counted: Duration::from_secs_f64(seconds),
        seed,
    };
    let outcome = arrivals.run()?;
    match outcome.lost {
        0 => Ok(outcome.made),
        lost => fail(format!("{lost} of {} requests failed", outcome.made)),
    }
}
