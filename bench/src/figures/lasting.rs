//! How evenly connections lie on the workers that stay there, as those of WebSockets and of databases do.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::resource::{Resource, getrlimit};
use nix::sys::socket::{MsgFlags, send};

use super::{Figure, How, Measure, Round, measure};
use crate::client::{await_answer, await_made, open};
use crate::contender::Shape;
use crate::error::{Error, Result, failed};
use crate::process;
use crate::server::Server;

pub static FIGURE: Figure = Figure {
    name: "lasting",
    title: "10,000 connections that stay, on 4 workers with an event loop (a quick run: 4,000)",
    baseline: "reuseport",
    contenders: &["reuseport", "none", "passed", "kernel", "rotation", "node-rr"],
    more: &[
        "shared",
        "exclusive",
        "nginx",
        "nginx-reuseport",
        "node-none",
        "cluster-rs-passed",
        "cluster-rs-kernel",
        "cluster-rs-rotation",
        "cluster-rs",
    ],
    rounds: |plan| plan.trials.min(3),
    measures,
    round,
};

/// So many are without their first answer at a time.
const AT_ONCE: usize = 64;
/// Descriptors that a process may have for other things.
const OTHERS: u64 = 200;
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

fn measures(_: &crate::plan::Plan) -> Vec<Measure> {
    vec![
        measure("spread", "the most minus the least connections of a worker", "", 0, How::Largest),
        measure("cpu", "CPU of all processes per connection and its first request", "us", 1, How::Ratio),
    ]
}

fn round(round: &mut Round) -> Result<()> {
    let connections = round.plan.lasting;
    // This program has all of them, and a single worker may get them all.
    let needed = connections as u64 + OTHERS;
    let (limit, _) = getrlimit(Resource::RLIMIT_NOFILE).map_err(failed("getrlimit"))?;
    if limit < needed {
        return Err(Error::Unavailable(format!("{needed} descriptors are needed, the limit is {limit} (ulimit -n)")));
    }
    let mut server = Server::start(round.shop, round.contender, Shape { http: true, ..Shape::workers(4) })?;
    let workers = server.pids[1..].to_vec();
    let sockets = || -> Result<Vec<f64>> { workers.iter().map(|pid| process::sockets(*pid)).collect() };
    let counts = server.counts()?;
    let (before, used) = (sockets()?, server.used()?);
    let kept = keep(server.ports[0], connections)?;
    round.note("cpu", server.used()?.since(used, connections).all());
    server.check_served(&counts, connections as u64)?;
    let held: Vec<f64> = sockets()?.iter().zip(before).map(|(now, before)| now - before).collect();
    let total: f64 = held.iter().sum();
    if total != connections as f64 {
        return Err(Error::Failed(format!("the workers have {total} of {connections} connections")));
    }
    let least = held.iter().copied().fold(f64::INFINITY, f64::min);
    round.note("spread", held.iter().copied().fold(0.0, f64::max) - least);
    drop(kept);
    server.stop()
}

/// Connections that have had one answer each.
fn keep(port: u16, connections: usize) -> Result<Vec<OwnedFd>> {
    let mut kept: Vec<OwnedFd> = Vec::with_capacity(connections);
    for i in 0..connections + AT_ONCE {
        if i < connections {
            let fd = open(port).map_err(failed("connect"))?;
            await_made(&fd)?;
            send(fd.as_raw_fd(), REQUEST, MsgFlags::MSG_NOSIGNAL).map_err(failed("send"))?;
            kept.push(fd);
        }
        if let Some(fd) = i.checked_sub(AT_ONCE).and_then(|first| kept.get(first)) {
            await_answer(fd)?;
        }
    }
    Ok(kept)
}
