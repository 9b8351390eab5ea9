//! Servers in Node: HTTP with a connection for each request, and with handlers that hold up the event loop.

use std::cell::Cell;
use std::time::{Duration, Instant};

use super::{Figure, How, Measure, Round, measure};
use crate::client::HTTP;
use crate::contender::Shape;
use crate::crowd::{Crowd, Pace};
use crate::error::{Result, fail};
use crate::server::{Server, Used};

const CONTENDERS: &[&str] =
    &["node-rr", "node-none", "cluster-rs-passed", "cluster-rs-kernel", "cluster-rs-rotation", "cluster-rs"];

pub static CLOSE: Figure = Figure {
    name: "http",
    title: "HTTP in Node, Connection: close, 2 workers, 64 open",
    baseline: "node-rr",
    contenders: CONTENDERS,
    more: &[],
    rounds: |plan| plan.rounds,
    measures: close_measures,
    round: |round| serve(round, "", None),
};

pub static BLOCK: Figure = Figure {
    name: "block",
    title: "the same, 1 % of the handlers hold up the event loop for 30 ms",
    baseline: "node-rr",
    contenders: CONTENDERS,
    more: &[],
    rounds: |plan| plan.rounds,
    measures: block_measures,
    round: |round| {
        serve(round, "burn ", Some(BURN))?;
        serve(round, "wait ", Some(WAIT))
    },
};

const BURN: &[u8] = b"GET /burn HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
const WAIT: &[u8] = b"GET /wait HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

fn close_measures(_: &crate::plan::Plan) -> Vec<Measure> {
    vec![
        measure("cpu", "CPU of all processes per request", "us", 1, How::Ratio),
        measure("primary", "of that the primary's", "us", 1, How::Median),
        measure("rate", "requests per second", "", 0, How::Ratio).more_is_better(),
        measure("p99", "latency, p99", "ms", 1, How::Median),
        measure("spread", "spread between the workers, all requests of a round", "", 0, How::Largest),
    ]
}

fn block_measures(_: &crate::plan::Plan) -> Vec<Measure> {
    let of = |name: &str, title: &str| {
        vec![
            measure(format!("{name} rate"), format!("{title}: requests per second"), "", 0, How::Ratio)
                .more_is_better(),
            measure(format!("{name} p99"), format!("{title}: latency, p99"), "ms", 1, How::Median),
        ]
    };
    [of("burn", "computing"), of("wait", "waiting in a call")].into_iter().flatten().collect()
}

/// What was known when the measured time began and ended.
#[derive(Clone, Copy)]
struct Look {
    used: Used,
    answered: usize,
    at: Instant,
}

fn serve(round: &mut Round, prefix: &str, special: Option<&'static [u8]>) -> Result<()> {
    let shape = Shape { http: true, ..Shape::workers(2) };
    let mut server = Server::start(round.shop, round.contender, shape)?;
    let counts = server.counts()?;
    let warm = Duration::from_secs_f64(round.plan.http_warm);
    let length = warm + Duration::from_secs_f64(round.plan.http_seconds);
    let crowd = Crowd {
        port: server.ports[0],
        pace: Pace::Open(64),
        request: &|n| if n % 100 == 99 { special.unwrap_or(HTTP) } else { HTTP },
        whole: &|answer| answer.starts_with(b"HTTP/1.1 200 ") && answer.ends_with(b"\r\n\r\nok"),
        length,
        patience: Duration::from_secs(10),
    };
    let (begin, end) = (Cell::new(None), Cell::new(None));
    let look = |cell: &Cell<Option<Look>>, answered: u64| -> Result<()> {
        cell.set(Some(Look { used: server.used()?, answered: answered as usize, at: Instant::now() }));
        Ok(())
    };
    let tally = crowd.run(&mut [
        (warm, Box::new(|tally| look(&begin, tally.answered))),
        (length, Box::new(|tally| look(&end, tally.answered))),
    ])?;
    if tally.lost() > 0 {
        return fail(format!("{} of {} requests failed", tally.lost(), tally.opened));
    }
    let served = server.check_served(&counts, tally.opened)?;
    let (Some(begin), Some(end)) = (begin.get(), end.get()) else { return fail("the load ended too early") };
    let answered = end.answered - begin.answered;
    let seconds = (end.at - begin.at).as_secs_f64();
    let mut latencies = tally.latencies[begin.answered..end.answered].to_vec();
    latencies.sort_by(f64::total_cmp);
    round.note(&format!("{prefix}rate"), answered as f64 / seconds);
    round.note(&format!("{prefix}p99"), latencies.get(latencies.len() * 99 / 100).copied().unwrap_or(0.0));
    if special.is_none() {
        let each = end.used.since(begin.used, answered);
        round.note("cpu", each.all());
        round.note("primary", each.primary);
        let most = served.iter().max().copied().unwrap_or(0);
        round.note("spread", (most - served.iter().min().copied().unwrap_or(0)) as f64);
    }
    server.stop()
}
