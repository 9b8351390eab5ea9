//! A worker hangs while about 300 connections come its way, and is killed: how many are lost?

use std::time::Duration;

use nix::sys::signal::Signal;

use super::{ALL_BUT_ONE, Figure, How, Measure, Round, TICKS_MS, longest_but_one, measure};
use crate::contender::Shape;
use crate::crowd::{Crowd, Pace, sends};
use crate::error::{Result, fail};
use crate::server::Server;

pub static FIGURE: Figure = Figure {
    name: "kill",
    title: "6,000 connections a second, one of 4 workers hangs for 200 ms and is killed",
    baseline: "reuseport",
    contenders: &["reuseport", "passed", "kernel", "rotation"],
    more: &["shared", "none", "node-rr", "node-none", "cluster-rs-passed", "cluster-rs-kernel", "cluster-rs-rotation"],
    rounds: |plan| plan.trials,
    measures,
    round,
};

const RATE: f64 = 6000.0;
const HANGS: Duration = Duration::from_millis(300);
const KILLED: Duration = Duration::from_millis(500);
const LENGTH: Duration = Duration::from_secs(1);

fn measures(_: &crate::plan::Plan) -> Vec<Measure> {
    vec![
        measure("lost", "connections lost", "", 0, How::Largest),
        measure("hung", "of them without any answer for 3 s", "", 0, How::Largest),
        measure("longest", "the longest of those served", "ms", 1, How::Largest).grain(TICKS_MS),
        measure("others", ALL_BUT_ONE, "ms", 1, How::Largest).grain(TICKS_MS),
    ]
}

fn round(round: &mut Round) -> Result<()> {
    let server = Server::start(round.shop, round.contender, Shape::workers(4).answering())?;
    let worker = server.pids[1];
    let crowd = Crowd {
        port: server.ports[0],
        pace: Pace::PerSecond(RATE),
        request: &|_| b"",
        whole: &|answer| answer == b"x",
        length: LENGTH,
        patience: Duration::from_secs(3),
    };
    let tally = crowd.run(&mut [sends(HANGS, worker, Signal::SIGSTOP), sends(KILLED, worker, Signal::SIGKILL)])?;
    if tally.answered + tally.lost() != tally.opened {
        return fail(format!(
            "{} connections, but {} answered and {} lost",
            tally.opened,
            tally.answered,
            tally.lost()
        ));
    }
    round.note("lost", tally.lost() as f64);
    round.note("hung", tally.hung as f64);
    round.note("longest", tally.latencies.iter().copied().fold(0.0, f64::max));
    round.note("others", longest_but_one(&tally.latencies));
    server.stop()
}
