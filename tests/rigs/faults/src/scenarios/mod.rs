//! What is done to whom, and what is told of it.

mod chaos;
mod comeback;
mod fleet;
mod hand;
mod orphans;
mod queue;
mod rolling;
mod single;
mod stops;
mod storm;
mod stuck;

use std::time::Duration;

use cluster_bench::error::{Error, Result};
use cluster_bench::page::number;
use cluster_bench::workshop::Workshop;

use crate::client::{Load, Running};
use crate::clock::wait_until;
use crate::contender::{ALL, Contender};
use crate::harm::Harmed;
use crate::oracle::{Entry, Verdict, judge};
use crate::result::Row;
use crate::server::{Server, Shape};

pub struct Scenario {
    pub name: &'static str,
    /// The heading of its table.
    pub title: &'static str,
    /// Who takes part if nobody is named.
    contenders: &'static [&'static str],
    quick_contenders: &'static [&'static str],
    run: fn(&mut Rig, Contender) -> Result<()>,
}

pub static SCENARIOS: [Scenario; 19] = [
    Scenario {
        name: "storm",
        title: "Figure 1: a worker of four is killed every 150 ms (Node: 250)",
        contenders: &[
            "passed",
            "kernel",
            "rotation",
            "cluster-rs-passed",
            "cluster-rs-kernel",
            "cluster-rs-rotation",
            "node-rr",
            "node-none",
        ],
        quick_contenders: C,
        run: storm::run,
    },
    Scenario {
        name: "comeback",
        title: "A kill storm with default settings: 0.5 ms of work a connection, a worker of four is killed every 250 ms",
        contenders: &[
            "none",
            "passed",
            "kernel",
            "rotation",
            "cluster-rs-passed",
            "cluster-rs-kernel",
            "cluster-rs-rotation",
            "node-rr",
        ],
        quick_contenders: C,
        run: comeback::run,
    },
    Scenario {
        name: "chaos",
        title: "Everything at once, by chance",
        contenders: C,
        quick_contenders: &["passed", "kernel", "rotation"],
        run: chaos::run,
    },
    Scenario {
        name: "single",
        title: "Figure 3: after a single fault",
        contenders: &[
            "passed",
            "kernel",
            "rotation",
            "cluster-rs-passed",
            "cluster-rs-kernel",
            "cluster-rs-rotation",
            "node-rr",
        ],
        quick_contenders: &["passed", "kernel", "rotation"],
        run: single::run,
    },
    Scenario {
        name: "stuck",
        title: "Figure 4: a worker of four is stuck",
        contenders: &[
            "passed",
            "kernel",
            "rotation",
            "cluster-rs-passed",
            "cluster-rs-kernel",
            "cluster-rs-rotation",
            "node-rr",
        ],
        quick_contenders: &["passed", "kernel", "rotation"],
        run: stuck::run,
    },
    Scenario {
        name: "rolling",
        title: "Figure 2: rolling replacements, workers in C",
        contenders: &["passed", "kernel", "rotation"],
        quick_contenders: &["passed", "kernel", "rotation"],
        run: rolling::run,
    },
    Scenario {
        name: "hand",
        title: "A connection in the hand of a worker that is killed, and the end of every connection",
        contenders: C,
        quick_contenders: C,
        run: hand::run,
    },
    Scenario {
        name: "queue",
        title: "Connections that wait",
        contenders: &["passed", "kernel", "rotation"],
        quick_contenders: &["passed", "kernel", "rotation"],
        run: queue::run,
    },
    Scenario {
        name: "resize",
        title: "The number of workers changes under load",
        contenders: C,
        quick_contenders: &["passed", "kernel", "rotation"],
        run: queue::resize,
    },
    Scenario {
        name: "orphans",
        title: "Figure 6: the primary is killed",
        contenders: &["none", "passed", "kernel", "rotation", "cluster-rs-kernel", "cluster-rs-rotation", "node-rr"],
        quick_contenders: C,
        run: orphans::run,
    },
    Scenario {
        name: "stops",
        title: "Stops under load",
        contenders: &[
            "none",
            "passed",
            "kernel",
            "rotation",
            "passed-least",
            "passed-hash",
            "kernel-hash",
            "cluster-rs-passed",
            "cluster-rs-kernel",
            "cluster-rs-rotation",
            "node-rr",
        ],
        quick_contenders: &["none", "passed", "kernel", "rotation", "passed-least", "passed-hash", "kernel-hash"],
        run: stops::local,
    },
    Scenario {
        name: "stops-link",
        title: "Stops under load, over a link with 20 ms of delay each way and 1 % loss",
        contenders: &["none", "passed", "kernel", "rotation", "passed-least", "passed-hash", "kernel-hash"],
        quick_contenders: &["passed", "kernel", "rotation"],
        run: stops::over_a_link,
    },
    Scenario {
        name: "reloads",
        title: "Reloads under load",
        contenders: &FLEETS,
        quick_contenders: &["none", "passed", "kernel", "rotation", "cluster-rs-rotation"],
        run: fleet::run,
    },
    Scenario {
        name: "refusals",
        title: "Reloads to workers that are no good",
        contenders: &FLEETS,
        quick_contenders: &["kernel", "rotation", "cluster-rs-rotation"],
        run: fleet::refusals::run,
    },
    Scenario {
        name: "scales",
        title: "The library is told of another number of workers",
        contenders: &FLEETS,
        quick_contenders: &["passed", "rotation"],
        run: fleet::scales::run,
    },
    Scenario {
        name: "recycles",
        title: "Workers are recycled under load",
        contenders: &FLEETS,
        quick_contenders: &["kernel"],
        run: fleet::recycles::run,
    },
    Scenario {
        name: "slots",
        title: "Clients keep their slot through reloads",
        contenders: &["passed-hash", "kernel-hash"],
        quick_contenders: &["passed-hash", "kernel-hash"],
        run: fleet::slots::run,
    },
    Scenario {
        name: "rest",
        title: "A fleet at rest",
        // A process of Node is woken by Node itself, now and then.
        contenders: C,
        quick_contenders: &["kernel", "rotation"],
        run: fleet::rest::run,
    },
    Scenario {
        name: "sequences",
        title: "A fleet in random sequences",
        contenders: C,
        quick_contenders: &["rotation"],
        run: fleet::sequences::run,
    },
];

const C: &[&str] = &["none", "passed", "kernel", "rotation"];

const FLEETS: [&str; 8] = [
    "none",
    "passed",
    "kernel",
    "rotation",
    "cluster-rs-none",
    "cluster-rs-passed",
    "cluster-rs-kernel",
    "cluster-rs-rotation",
];

pub fn named(name: &str) -> Option<&'static Scenario> {
    SCENARIOS.iter().find(|scenario| scenario.name == name)
}

pub struct Rig<'a> {
    pub shop: &'a Workshop,
    pub quick: bool,
    pub seeds: Vec<u64>,
    /// Empty: those that the scenario names.
    pub only: Vec<Contender>,
    pub rows: Vec<Row>,
    pub broken: Vec<String>,
    scenario: &'static Scenario,
}

impl<'a> Rig<'a> {
    pub fn new(shop: &'a Workshop, quick: bool, seeds: Vec<u64>, only: Vec<Contender>) -> Self {
        Self { shop, quick, seeds, only, rows: Vec::new(), broken: Vec::new(), scenario: &SCENARIOS[0] }
    }

    pub fn perform(&mut self, scenario: &'static Scenario) {
        self.scenario = scenario;
        let names = if self.quick { scenario.quick_contenders } else { scenario.contenders };
        let chosen: Vec<Contender> = match self.only.is_empty() {
            true => ALL.iter().filter(|contender| names.contains(&contender.name)).copied().collect(),
            false => self.only.clone(),
        };
        println!("\n{}: {}", scenario.name, scenario.title);
        for contender in chosen {
            match (scenario.run)(self, contender) {
                Ok(()) => {}
                Err(Error::Unavailable(why)) => println!("  without {}: {why}", contender.name),
                Err(Error::Failed(why)) => self.breach(contender, &why),
            }
        }
    }

    /// A result; `met` is not asked of stock node:cluster, which has promised nothing.
    pub fn row(&mut self, contender: Contender, row: &str, measured: String, goal: &str, met: bool) {
        let met = (!contender.is_stock() && !goal.is_empty()).then_some(met);
        let goal = if contender.is_stock() { "" } else { goal };
        let mark = if met == Some(false) { " MISSED" } else { "" };
        println!("  {:<20} {row}: {measured}{}{mark}", contender.name, shown(goal));
        self.rows.push(Row {
            part: self.scenario.title.into(),
            row: row.into(),
            contender: contender.title.into(),
            measured,
            goal: goal.into(),
            met,
        });
    }

    /// Something that was promised was not kept.
    pub fn breach(&mut self, contender: Contender, what: &str) {
        let told = format!("{} {}: {what}", self.scenario.name, contender.name);
        if contender.is_stock() {
            println!("  ({told})");
        } else {
            println!("  BROKEN {told}");
            self.broken.push(told);
        }
    }

    /// Holds the ledger against the claims; breaches are told with `what`, a few of them.
    pub fn judge(&mut self, server: &Server, entries: &[Entry], harmed: &Harmed, what: &str) -> Result<Verdict> {
        let verdict = self.judge_silently(server, entries, harmed, what)?;
        println!("  {:<20} {what}: {verdict}", server.contender.name);
        Ok(verdict)
    }

    /// The same without a line for what went well.
    pub fn judge_silently(
        &mut self,
        server: &Server,
        entries: &[Entry],
        harmed: &Harmed,
        what: &str,
    ) -> Result<Verdict> {
        // A worker is between accept and its claim for a few microseconds, unless the machine is busy with other things, as
        // it may be in `make test`. By chance one run has several times as many as another: that no more than 1 kill in 100
        // costs one is judged over all seeds.
        let per_hundred = if self.quick || !server.contender.is_c() { 20 } else { 4 };
        let verdict = judge(entries, &server.claims()?, &harmed.windows, per_hundred);
        for breach in verdict.breaches.iter().take(5) {
            let text = format!("{what}: {breach}{}", about(entries, breach));
            self.breach(server.contender, &text);
        }
        if verdict.breaches.len() > 5 {
            self.breach(server.contender, &format!("{what}: and {} more", verdict.breaches.len() - 5));
        }
        for (id, worker) in ended_unasked(server, harmed) {
            self.breach(server.contender, &format!("{what}: worker {id} ended by itself: {worker}"));
        }
        Ok(verdict)
    }
}

fn shown(goal: &str) -> String {
    if goal.is_empty() { String::new() } else { format!(" (goal {goal})") }
}

/// When and from which port the request was that a breach is about.
fn about(entries: &[Entry], breach: &crate::oracle::Breach) -> String {
    let text = breach.to_string();
    let entry = entries.iter().find(|entry| text.starts_with(&format!("{:#x} ", entry.id)));
    entry.map_or(String::new(), |entry| {
        let begin = entries.iter().map(|entry| entry.begun).min().unwrap_or(0);
        let (from, to) = ((entry.begun - begin) / 1_000_000, (entry.ended - begin) / 1_000_000);
        format!(" ({:?}, port {}, from {from} to {to} ms)", entry.outcome, entry.port)
    })
}

fn ended_unasked(server: &Server, harmed: &Harmed) -> Vec<(u64, String)> {
    let told = server.told();
    let found = told.workers.iter().filter_map(|(id, worker)| {
        let (_, code, signal) = worker.ended?;
        let as_it_should = code == 0 || harmed.was_killed(worker.pid);
        (!as_it_should).then(|| (*id, format!("code {code}, signal {signal}")))
    });
    found.collect()
}

/// A server under a load that has begun to be served.
pub fn under_load(rig: &Rig, contender: Contender, shape: Shape, load: Load) -> Result<(Server, Running)> {
    let server = Server::start(rig.shop, contender, shape)?;
    let running = begin(&server, load)?;
    Ok((server, running))
}

/// Begins a load at the server's port and waits until it is served.
pub fn begin(server: &Server, load: Load) -> Result<Running> {
    let running = Load { port: server.port, ..load }.start()?;
    wait_until(Duration::from_secs(5), || running.done() >= 20 || running.is_finished());
    Ok(running)
}

/// Lets so many further connections come to their end.
pub fn go_on_for(running: &Running, connections: u64) {
    let due = running.done() + connections;
    wait_until(Duration::from_secs(5), || running.done() >= due);
}

/// How many each worker that serves now gets of so many connections: the difference between the most and the least.
pub fn split(server: &Server, connections: u64, rate: f64, first_id: u64) -> Result<u64> {
    let entries = Load { first_id, ..Load::new(server.port, rate).count(connections) }.run()?;
    let serving = server.serving();
    let count = |pid: u32| {
        let of =
            |entry: &&Entry| matches!(entry.outcome, crate::oracle::Outcome::Answered { pid: by, .. } if by == pid);
        entries.iter().filter(of).count() as u64
    };
    let counts: Vec<u64> = serving.iter().map(|(_, worker)| count(worker.pid)).collect();
    let all: u64 = counts.iter().sum();
    // What others answered, or nobody, belongs to no turn.
    let strayed = connections - all;
    Ok(counts.iter().max().unwrap_or(&0) - counts.iter().min().unwrap_or(&0) + strayed)
}

/// The value below which so large a part is.
pub fn quantile(values: &mut [f64], part: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let at = (values.len() as f64 * part).ceil() as usize;
    values.get(at.saturating_sub(1)).copied().unwrap_or(0.0)
}

pub fn milliseconds(value: f64) -> String {
    number(value, if value < 10.0 { 1 } else { 0 })
}
