//! What a worker has taken: that its client learns of its death, and that nobody else keeps the connection open.

use std::time::Duration;

use cluster_bench::error::{Result, fail};

use super::{Rig, milliseconds, quantile};
use crate::claims::Kind;
use crate::client::{Load, Wanted};
use crate::clock::{ms, wait_until};
use crate::contender::Contender;
use crate::harm::Harmed;
use crate::oracle::Outcome;
use crate::server::{Server, Shape};

pub fn run(rig: &mut Rig, contender: Contender) -> Result<()> {
    killed(rig, contender)?;
    ends(rig, contender)
}

fn killed(rig: &mut Rig, contender: Contender) -> Result<()> {
    // At most eight workers are replaced in a second.
    let kills = if rig.quick { 20 } else { 200 };
    let server = Server::start(rig.shop, contender, Shape::default())?;
    let (mut entries, mut harmed) = (Vec::new(), Harmed::default());
    for i in 0..kills {
        let load = Load { wanted: Wanted::Hold, first_id: i + 1, ..Load::new(server.port, 1000.0).count(1) };
        let id = (Wanted::Hold as u64) << 56 | (i + 1);
        let running = load.start()?;
        let mut taken_by = None;
        let read = |claims: Vec<crate::claims::Claim>| {
            claims.iter().rev().find(|claim| claim.kind == Kind::Read && claim.id == id).map(|claim| claim.pid)
        };
        wait_until(Duration::from_secs(5), || {
            taken_by = server.claims().ok().and_then(read);
            taken_by.is_some() || running.is_finished()
        });
        if let Some(pid) = taken_by {
            harmed.kill(pid);
        }
        entries.extend(running.wait()?);
    }
    let verdict = rig.judge(&server, &entries, &harmed, "killed with a connection in hand")?;
    if verdict.in_hand != kills {
        rig.breach(contender, &format!("{} of {kills} ended with their worker", verdict.in_hand));
    }
    let told = verdict.slowest_farewell;
    rig.row(
        contender,
        &format!("{kills} killed with a connection in hand: the last client knew after, ms"),
        milliseconds(told),
        "<= 50",
        told <= 50.0,
    );
    server.stop()
}

fn ends(rig: &mut Rig, contender: Contender) -> Result<()> {
    let connections = if rig.quick { 500 } else { 10_000 };
    let server = Server::start(rig.shop, contender, Shape::default())?;
    let entries = Load::new(server.port, contender.rate()).count(connections).run()?;
    rig.judge(&server, &entries, &Harmed::default(), "the end of every connection")?;
    let delay = |outcome: Outcome, ended: u64| match outcome {
        Outcome::Answered { sent, .. } => Some(ms(ended.saturating_sub(sent))),
        _ => None,
    };
    let mut delays: Vec<f64> = entries.iter().filter_map(|entry| delay(entry.outcome, entry.ended)).collect();
    if delays.len() as u64 != connections {
        return fail(format!("{} of {connections} were answered", delays.len()));
    }
    let (most, rare) = (quantile(&mut delays, 1.0), quantile(&mut delays, 0.999));
    rig.row(
        contender,
        "a worker's close to its client's end of file, p99.9, ms",
        milliseconds(rare),
        "<= 2",
        rare <= 2.0,
    );
    rig.row(contender, "the longest, ms", milliseconds(most), "<= 100", most <= 100.0);
    server.stop()
}
