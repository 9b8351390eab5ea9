//! One worker of four stands still for a second while connections keep coming: who has to wait? And a closed loop of clients while
//! one worker of two stands still all the time: how much of the work gets done? Connections that come at a rate of their own do not
//! show a worker that is tried again and again; a client that waits for it and so makes no other connection does.

use std::time::Duration;

use nix::sys::signal::Signal;

use super::{ALL_BUT_ONE, Figure, How, Measure, Round, TICKS_MS, longest_but_one, measure};
use crate::contender::Shape;
use crate::crowd::{Crowd, Pace, Tally, sends};
use crate::error::{Result, fail};
use crate::server::Server;

pub static FIGURE: Figure = Figure {
    name: "stall",
    title: "4,000 connections a second, one of 4 workers stopped or busy for 1 s",
    baseline: "reuseport",
    contenders: &["reuseport", "passed", "kernel", "rotation"],
    more: &[
        "shared",
        "none",
        "libuv",
        "node-rr",
        "node-none",
        "cluster-rs-passed",
        "cluster-rs-kernel",
        "cluster-rs-rotation",
    ],
    rounds: |plan| plan.trials,
    measures,
    round,
};

const RATE: f64 = 4000.0;
const LONG_MS: f64 = 100.0;
/// From when on the worker stands still.
const ONSET: Duration = Duration::from_millis(200);
/// The closed loop: its clients, and what is long for one of them. Each may once be with the worker as it stops.
const CLIENTS: usize = 24;
const LATE_MS: f64 = 40.0;

fn measures(_: &crate::plan::Plan) -> Vec<Measure> {
    vec![
        measure("stopped", "connections over 100 ms, a worker stopped", "", 0, How::Largest),
        measure("stopped-longest", "the longest of them all", "ms", 1, How::Largest).grain(TICKS_MS),
        measure("stopped-others", ALL_BUT_ONE, "ms", 1, How::Largest).grain(TICKS_MS),
        measure("busy", "connections over 100 ms, a worker busy", "", 0, How::Largest),
        measure("busy-longest", "the longest of them all", "ms", 1, How::Largest).grain(TICKS_MS),
        measure("busy-others", ALL_BUT_ONE, "ms", 1, How::Largest).grain(TICKS_MS),
        measure("loop", "24 clients in a closed loop, over 40 ms, one of 2 workers stopped", "", 0, How::Largest)
            .grain(CLIENTS as f64),
        measure("loop-kept", "of what both would serve, served", "", 2, How::Median).more_is_better(),
    ]
}

fn round(round: &mut Round) -> Result<()> {
    // A worker in Node has a way of its own to be busy, measured by the figure `block`.
    let kinds: &[&str] = if round.contender.is_node() { &["stopped"] } else { &["stopped", "busy"] };
    for kind in kinds {
        let mut server = Server::start(round.shop, round.contender, Shape::workers(4).answering())?;
        let counts = server.counts()?;
        let worker = server.pids[1];
        let still = Duration::from_secs_f64(round.plan.stopped_seconds);
        let crowd = Crowd {
            port: server.ports[0],
            pace: Pace::PerSecond(RATE),
            request: &|_| b"",
            whole: &|answer| answer == b"x",
            length: Duration::from_secs_f64(round.plan.stall_seconds),
            patience: Duration::from_secs(5),
        };
        let tally = if *kind == "stopped" {
            crowd.run(&mut [sends(ONSET, worker, Signal::SIGSTOP), sends(ONSET + still, worker, Signal::SIGCONT)])?
        } else {
            let board = &server.board;
            let wish = |_: &Tally| {
                board.keep_busy(still.as_millis() as u32);
                Ok(())
            };
            crowd.run(&mut [(ONSET, Box::new(wish))])?
        };
        if tally.lost() > 0 {
            return fail(format!("{} of {} connections were lost", tally.lost(), tally.opened));
        }
        server.check_served(&counts, tally.opened)?;
        if server.board.is_wish_open() {
            return fail("no worker was ever busy");
        }
        let longest = tally.latencies.iter().copied().fold(0.0, f64::max);
        round.note(kind, tally.latencies.iter().filter(|taken| **taken > LONG_MS).count() as f64);
        round.note(&format!("{kind}-longest"), longest);
        round.note(&format!("{kind}-others"), longest_but_one(&tally.latencies));
        server.stop()?;
    }
    closed_loop(round)
}

/// How long the clients of the loop go on.
fn loop_length(round: &Round) -> Duration {
    Duration::from_secs_f64(round.plan.stall_seconds)
}

fn closed_loop(round: &mut Round) -> Result<()> {
    let both = run_loop(round, false)?;
    let one = run_loop(round, true)?;
    // What was with the worker from the beginning is answered when it goes on, at the end.
    let late = one.latencies.iter().filter(|taken| **taken > LATE_MS).count();
    round.note("loop", late as f64);
    round.note("loop-kept", one.answered as f64 / both.answered.max(1) as f64);
    Ok(())
}

fn run_loop(round: &Round, stops: bool) -> Result<Tally> {
    let mut server = Server::start(round.shop, round.contender, Shape::workers(2).answering())?;
    let counts = server.counts()?;
    let worker = server.pids[1];
    let crowd = Crowd {
        port: server.ports[0],
        pace: Pace::Open(CLIENTS),
        request: &|_| b"",
        whole: &|answer| answer == b"x",
        length: loop_length(round),
        patience: Duration::from_secs(5),
    };
    let still = [sends(Duration::ZERO, worker, Signal::SIGSTOP), sends(loop_length(round), worker, Signal::SIGCONT)];
    let tally = if stops { crowd.run(&mut { still })? } else { crowd.run(&mut [])? };
    if tally.lost() > 0 {
        return fail(format!("{} of {} connections were lost", tally.lost(), tally.opened));
    }
    server.check_served(&counts, tally.opened)?;
    server.stop()?;
    Ok(tally)
}
