//! Which charts are drawn from which results.

use std::path::Path;

use crate::chart::{Bar, Curve, bars, curves};
use crate::contender::{self, Contender};
use crate::error::{Result, failed};
use crate::figures::Figure;
use crate::plan::FULL;
use crate::report::number;
use crate::results::{Record, Spread};

struct Chart {
    name: &'static str,
    figure: &'static str,
    measure: &'static str,
    title: &'static str,
    note: &'static str,
    /// A measure that is a part of the other.
    part: Option<&'static str>,
    digits: usize,
    /// The worst round and not the median.
    largest: bool,
    /// None: all that were measured.
    whom: Option<&'static [&'static str]>,
}

const IN_C: &[&str] = &[
    "single",
    "shared",
    "blocking",
    "reuseport",
    "reuseport-blocking",
    "handover",
    "none",
    "passed",
    "kernel",
    "rotation",
    "libuv",
    "nginx",
    "nginx-reuseport",
];
const AND_NODE: &[&str] =
    &["single", "reuseport", "none", "passed", "kernel", "rotation", "libuv", "nginx", "node-rr", "node-none"];
const STANDSTILL: &[&str] = &[
    "shared",
    "reuseport",
    "none",
    "passed",
    "kernel",
    "rotation",
    "libuv",
    "node-rr",
    "cluster-rs-passed",
    "cluster-rs-kernel",
    "cluster-rs-rotation",
];

const fn chart(
    name: &'static str,
    figure: &'static str,
    measure: &'static str,
    title: &'static str,
    note: &'static str,
) -> Chart {
    Chart { name, figure, measure, title, note, part: None, digits: 0, largest: false, whom: None }
}

/// Of a figure that is measured in open loop.
const fn tail(name: &'static str, figure: &'static str, measure: &'static str, title: &'static str) -> Chart {
    let note = "from the intended beginning; 80 % of the baseline's capacity, 2 workers; lines: quartiles";
    Chart { digits: 1, ..chart(name, figure, measure, title, note) }
}

static CHARTS: &[Chart] = &[
    Chart {
        part: Some("primary"),
        digits: 2,
        whom: Some(IN_C),
        ..chart(
            "cpu",
            "cost",
            "cpu",
            "Server CPU per connection, microseconds",
            "4 workers, 64 outstanding; pale: the primary's part; lines: quartiles. nginx speaks HTTP, the others accept and close",
        )
    },
    Chart {
        digits: 2,
        whom: Some(IN_C),
        ..chart(
            "drain-cpu",
            "cost",
            "drain-cpu",
            "Server CPU per connection out of a queue, microseconds",
            "built while the server was stopped; 4 workers; lines: quartiles",
        )
    },
    Chart {
        part: Some("primary"),
        digits: 1,
        whom: Some(AND_NODE),
        ..chart(
            "cpu-node",
            "cost",
            "cpu",
            "The same beside Node, whose sockets are JavaScript objects",
            "server CPU per connection, microseconds; 4 workers, 64 outstanding; pale: the primary's part",
        )
    },
    Chart {
        whom: Some(AND_NODE),
        ..chart(
            "drain",
            "cost",
            "drain",
            "Connections per second out of a queue",
            "built while the server was stopped; 4 workers; lines: quartiles",
        )
    },
    Chart {
        digits: 1,
        whom: Some(AND_NODE),
        ..chart(
            "latency",
            "cost",
            "latency",
            "Connect to first packet, microseconds",
            "at low load, median; lines: quartiles of the rounds",
        )
    },
    Chart {
        largest: true,
        whom: Some(STANDSTILL),
        ..chart(
            "stall",
            "stall",
            "stopped",
            "Connections that waited over 100 ms",
            "one of 4 workers stopped for 1 s at 4,000 connections a second; the worst round",
        )
    },
    Chart {
        largest: true,
        whom: Some(STANDSTILL),
        ..chart(
            "kill",
            "kill",
            "lost",
            "Connections lost with a worker",
            "hung for 200 ms at 6,000 connections a second, then killed; the worst round",
        )
    },
    Chart {
        part: Some("primary"),
        digits: 1,
        ..chart(
            "http",
            "http",
            "cpu",
            "Node: CPU per HTTP request, microseconds",
            "Connection: close, 2 workers, 64 open; pale: the primary's part; lines: quartiles",
        )
    },
    chart(
        "block",
        "block",
        "burn rate",
        "Node: requests per second while 1 % compute for 30 ms",
        "2 workers, 64 open; lines: quartiles",
    ),
    Chart {
        digits: 1,
        ..chart(
            "wakes",
            "wakes",
            "wakes 4 100",
            "Wake-ups of the primary per request",
            "100 requests a second, 4 workers with an event loop; lines: quartiles",
        )
    },
    Chart {
        digits: 1,
        largest: true,
        ..chart(
            "idle",
            "idle",
            "loop-primary",
            "Wake-ups of the primary a second while nothing is to be done",
            "4 workers with an event loop; the worst round",
        )
    },
    Chart {
        largest: true,
        ..chart(
            "lasting",
            "lasting",
            "spread",
            "10,000 connections that stay: the most minus the least of a worker",
            "4 workers with an event loop; the worst round",
        )
    },
    tail("open-short", "open", "p99.9 new short 80", "New connections, handlers of 0.2 ms: p99.9, milliseconds"),
    tail(
        "open-long",
        "open",
        "p99.9 new long 80",
        "New connections, 1 % of the handlers take 30 ms: p99.9, milliseconds",
    ),
    tail(
        "open-node-short",
        "open-node",
        "p99.9 new short 80",
        "Node, new connections, handlers of 0.2 ms: p99.9, milliseconds",
    ),
    tail(
        "open-node-long",
        "open-node",
        "p99.9 new long 80",
        "Node, new connections, 1 % of the handlers take 30 ms: p99.9, milliseconds",
    ),
];

/// The charts of a figure: file and caption.
pub fn of(figure: &str) -> Vec<(&'static str, &'static str)> {
    match figure {
        "scale" => vec![
            ("workers", "CPU per connection by number of workers"),
            ("addresses", "CPU per connection by number of addresses"),
        ],
        _ => CHARTS.iter().filter(|chart| chart.figure == figure).map(|chart| (chart.name, chart.title)).collect(),
    }
}

fn bar(chart: &Chart, record: &Record, contender: &Contender) -> Option<Bar> {
    if chart.whom.is_some_and(|whom| !whom.contains(&contender.name)) {
        return None;
    }
    let values = record.values(chart.measure, contender.name);
    let Spread { low, median, high } = Spread::of(&values)?;
    let value = if chart.largest { values.iter().copied().fold(0.0, f64::max) } else { median };
    let part =
        chart.part.and_then(|measure| record.spread(measure, contender.name)).map_or(0.0, |spread| spread.median);
    let range = (!chart.largest && values.len() > 1).then_some((low, high));
    let digits = chart.digits;
    Some(Bar {
        label: contender.title.into(),
        value,
        part,
        range,
        shown: number(value, digits),
        ours: contender.is_ours(),
    })
}

fn growth(of: &str, steps: &[usize], record: &Record) -> (Vec<String>, Vec<Curve>) {
    let curve = |name: &str| {
        let values =
            steps.iter().map(|n| record.spread(&format!("cpu {of}={n}"), name).map(|spread| spread.median)).collect();
        Curve { label: name.into(), values }
    };
    let measured = |name: &&str| record.samples.iter().any(|sample| sample.contender == *name);
    let shown = ["reuseport", "passed", "kernel", "rotation"].into_iter().filter(measured).map(curve).collect();
    (steps.iter().map(usize::to_string).collect(), shown)
}

pub fn draw(records: &[(&'static Figure, Record)], folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(failed("the folder for charts"))?;
    let write = |name: &str, svg: String| {
        std::fs::write(folder.join(name).with_extension("svg"), svg).map_err(failed("a chart"))
    };
    for (figure, record) in records {
        for chart in CHARTS.iter().filter(|chart| chart.figure == figure.name) {
            let drawn: Vec<Bar> = contender::ALL.iter().filter_map(|contender| bar(chart, record, contender)).collect();
            write(chart.name, bars(chart.title, chart.note, &drawn))?;
        }
        if figure.name == "scale" {
            for (name, steps, note) in [
                ("workers", FULL.worker_counts, "by number of workers; 1 address, 64 outstanding"),
                (
                    "addresses",
                    FULL.address_counts,
                    "by number of addresses; 4 workers with an event loop, 64 outstanding",
                ),
            ] {
                let (steps, drawn) = growth(name, steps, record);
                write(name, curves("Server CPU per connection, microseconds", note, &steps, &drawn))?;
            }
        }
    }
    Ok(())
}
