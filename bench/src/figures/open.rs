//! How long requests take that come at times of their own, at three loads: the tail is what late or wrong decisions cost.

use std::time::Duration;

use nix::unistd::Pid;

use super::{Figure, How, Measure, Round, measure};
use crate::arrivals::{Arrivals, Outcome, Pace, quantile};
use crate::contender::{self, Shape};
use crate::error::{Result, fail, failed};
use crate::plan::Plan;
use crate::process::{self, Machine};
use crate::server::{Server, Used};

pub static IN_C: Figure = Figure {
    name: "open",
    title: "open loop, 2 workers in C with an event loop: latency from the intended beginning",
    baseline: "reuseport",
    contenders: &["reuseport", "none", "passed", "kernel", "rotation"],
    more: &[],
    rounds: |plan| plan.open_rounds,
    measures,
    round,
};

pub static IN_NODE: Figure = Figure {
    name: "open-node",
    title: "the same, 2 workers in Node",
    baseline: "node-rr",
    contenders: &[
        "node-rr",
        "node-none",
        "cluster-rs-passed",
        "cluster-rs-kernel",
        "cluster-rs-rotation",
        "cluster-rs",
    ],
    more: &[],
    rounds: |plan| plan.open_rounds,
    measures,
    round,
};

/// Whether connections are kept. As many are as a small pool of clients has.
struct Way {
    name: &'static str,
    title: &'static str,
    kept: Option<usize>,
}

const WAYS: [Way; 2] = [
    Way { name: "new", title: "new connections", kept: None },
    Way { name: "kept", title: "64 kept connections", kept: Some(KEPT) },
];
const KEPT: usize = 64;

/// Handlers compute for 0.2 ms; such a part of them does something else.
struct Mix {
    name: &'static str,
    title: &'static str,
    part: f64,
    /// What those ask for; without and with the end of the connection.
    special: [&'static [u8]; 2],
}

macro_rules! ask {
    ($path:literal) => {
        [
            concat!("GET ", $path, " HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes(),
            concat!("GET ", $path, " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes(),
        ]
    };
}

const SHORT: [&[u8]; 2] = ask!("/short");
const MIXES: [Mix; 3] = [
    Mix { name: "short", title: "handlers 0.2 ms", part: 0.0, special: SHORT },
    Mix { name: "long", title: "1 % 30 ms", part: 0.01, special: ask!("/long") },
    Mix { name: "later", title: "10 % wait 20 ms", part: 0.10, special: ask!("/later") },
];

/// To find the capacity, and of which part of it the server is warmed up.
const AT_ONCE: usize = 64;
const WARM_PART: f64 = 0.4;
/// Less than this is the client's and the scheduler's.
const P50_MS: f64 = 0.1;
const P99_MS: f64 = 0.5;
const P999_MS: f64 = 2.0;
/// What says something of the machine and not of a build.
const NOT_JUDGED: f64 = 1e9;

/// One line of the figure.
struct Load {
    way: &'static Way,
    mix: &'static Mix,
    percent: usize,
}

fn loads(plan: &Plan) -> Vec<Load> {
    let kinds = WAYS.iter().flat_map(|way| MIXES.iter().map(move |mix| (way, mix)));
    kinds
        .flat_map(|(way, mix)| plan.open_loads.iter().map(move |percent| Load { way, mix, percent: *percent }))
        .collect()
}

impl Load {
    fn name(&self) -> String {
        format!("{} {} {}", self.way.name, self.mix.name, self.percent)
    }

    /// The requests are the same for all contenders of a round.
    fn arrivals<'a>(
        &self,
        port: u16,
        pace: Pace,
        seed: u64,
        request: &'a dyn Fn(f64) -> &'static [u8],
        (warm, counted): (f64, f64),
    ) -> Arrivals<'a> {
        let [warm, counted] = [warm, counted].map(Duration::from_secs_f64);
        Arrivals { port, pace, kept: self.way.kept, request, warm, counted, seed }
    }

    fn run(&self, server: &mut Server, pace: Pace, seed: u64, seconds: (f64, f64)) -> Result<(Outcome, Used)> {
        let closes = usize::from(self.way.kept.is_none());
        let request = |chance| if chance < self.mix.part { self.mix.special[closes] } else { SHORT[closes] };
        let counts = server.counts()?;
        let before = server.used()?;
        let outcome = self.arrivals(server.ports[0], pace, seed, &request, seconds).run()?;
        let used = server.used()?.since(before, outcome.answered.max(1) as usize);
        if outcome.lost > 0 {
            return fail(format!("{}: {} of {} requests failed", self.name(), outcome.lost, outcome.made));
        }
        server.check_served(&counts, outcome.made)?;
        Ok((outcome, used))
    }
}

fn measures(plan: &Plan) -> Vec<Measure> {
    let mut measures = Vec::new();
    for load in loads(plan) {
        let of = |what: &str, title: &str, unit, digits| {
            let title = format!("{}, {}, {} % load: {title}", load.way.title, load.mix.title, load.percent);
            measure(format!("{what} {}", load.name()), title, unit, digits, How::Ratio)
        };
        measures.push(of("p50", "p50", "ms", 2).grain(P50_MS));
        measures.push(of("p99", "p99", "ms", 2).grain(P99_MS));
        measures.push(of("p99.9", "p99.9", "ms", 2).grain(P999_MS));
        measures.push(of("cpu", "CPU of all processes per request", "us", 0));
    }
    for way in &WAYS {
        for mix in &MIXES {
            let title = format!("{}, {}: the capacity, requests per second", way.title, mix.title);
            measures.push(measure(capacity_name(way, mix), title, "", 0, How::Median).more_is_better());
        }
    }
    let late = measure("late", "how late the client began, p99.9, part of all latencies", "ms", 2, How::Median);
    let others = measure("others", "CPUs of the machine that others used meanwhile", "%", 1, How::Median);
    measures.extend([late, others].map(|of_the_machine| of_the_machine.grain(NOT_JUDGED)));
    measures
}

fn capacity_name(way: &Way, mix: &Mix) -> String {
    format!("capacity {} {}", way.name, mix.name)
}

fn baseline(round: &Round) -> &'static str {
    if round.contender.is_node() { IN_NODE.baseline } else { IN_C.baseline }
}

/// What the baseline does in a closed loop, before the first round. The loads of all contenders are parts of it.
fn find_capacities(round: &mut Round) -> Result<()> {
    let name = baseline(round);
    let contender = contender::named(name).ok_or_else(|| failed(name)("no contender"))?;
    let plan = round.plan;
    let mut server = Server::start(round.shop, contender, shape())?;
    for way in &WAYS {
        for mix in &MIXES {
            let load = Load { way, mix, percent: 100 };
            let seconds = (plan.http_warm, plan.open_seconds);
            let (outcome, _) = load.run(&mut server, Pace::AtOnce(AT_ONCE), 0, seconds)?;
            let rate = outcome.latencies.len() as f64 / plan.open_seconds;
            // A machine that stood still for that time must not have everybody wait for ever.
            round.known.insert(capacity_name(way, mix), rate.max(100.0));
        }
    }
    server.stop()
}

fn shape() -> Shape {
    Shape { http: true, ..Shape::workers(2) }
}

fn round(round: &mut Round) -> Result<()> {
    if round.known.is_empty() {
        find_capacities(round)?;
    }
    let mut server = Server::start(round.shop, round.contender, shape())?;
    if round.contender.name == baseline(round) {
        for (name, rate) in round.known.clone() {
            round.note(&name, rate);
        }
    }
    let plan = round.plan;
    let capacity = |round: &Round, load: &Load| {
        let name = capacity_name(load.way, load.mix);
        round.known.get(&name).copied().ok_or_else(|| failed(&name)("unknown"))
    };
    let warm = Load { way: &WAYS[0], mix: &MIXES[0], percent: 100 };
    let rate = capacity(round, &warm)? * WARM_PART;
    warm.run(&mut server, Pace::PerSecond(rate), 0, (0.0, plan.http_warm))?;
    let mut late = Vec::new();
    let (machine, own) = (Machine::now()?, server.used()?.all() + process::used(Pid::this())?.0);
    for (i, load) in loads(plan).iter().enumerate() {
        let rate = capacity(round, load)? * load.percent as f64 / 100.0;
        let seconds = plan.open_seconds.max(plan.open_requests as f64 / rate);
        let seed = (round.number * 100 + i) as u64 + 1;
        let (outcome, used) = load.run(&mut server, Pace::PerSecond(rate), seed, (plan.open_warm, seconds))?;
        for (what, part) in [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)] {
            round.note(&format!("{what} {}", load.name()), quantile(&outcome.latencies, part));
        }
        round.note(&format!("cpu {}", load.name()), used.all());
        late.extend(outcome.late);
    }
    let own = server.used()?.all() + process::used(Pid::this())?.0 - own;
    round.note("others", Machine::now()?.others_since(machine, own) * 100.0);
    late.sort_by(f64::total_cmp);
    round.note("late", quantile(&late, 0.999));
    server.stop()
}
