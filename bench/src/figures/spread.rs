//! How evenly connections are spread, also when the network is not what it should be.

use super::{Figure, How, Measure, Round, measure};
use crate::contender::Shape;
use crate::error::{Error, Result, fail};
use crate::namespace::{Namespace, Stray};
use crate::server::Server;

pub static FIGURE: Figure = Figure {
    name: "spread",
    title: "the most minus the least connections of 4 workers, in 100,000 (a quick run: 20,000)",
    baseline: "reuseport",
    contenders: &["reuseport", "passed", "kernel", "rotation"],
    more: &[
        "shared",
        "exclusive",
        "blocking",
        "none",
        "libuv",
        "node-rr",
        "cluster-rs-passed",
        "cluster-rs-kernel",
        "cluster-rs-rotation",
    ],
    rounds: |plan| plan.trials.min(3),
    measures,
    round,
};

struct Condition {
    name: &'static str,
    title: &'static str,
    /// Ten is less than one mailbox holds, so that no worker is ever full.
    outstanding: usize,
    cookies: bool,
    strays: bool,
    scan: bool,
}

const CONDITIONS: [Condition; 6] = [
    Condition { name: "calm", title: "10 outstanding", outstanding: 10, cookies: false, strays: false, scan: false },
    Condition { name: "busy", title: "64 outstanding", outstanding: 64, cookies: false, strays: false, scan: false },
    Condition { name: "cookies", title: "SYN cookies", outstanding: 10, cookies: true, strays: false, scan: false },
    Condition {
        name: "strays",
        title: "stray ACK, RST and FIN",
        outstanding: 10,
        cookies: false,
        strays: true,
        scan: false,
    },
    Condition {
        name: "both",
        title: "SYN cookies and strays",
        outstanding: 10,
        cookies: true,
        strays: true,
        scan: false,
    },
    Condition { name: "scan", title: "a SYN scan", outstanding: 10, cookies: false, strays: false, scan: true },
];

/// A stray packet before one connection in so many, at no regular distance: a rhythm could fall in with that of the turns.
const STRAY_EVERY: u32 = 7;

/// Numbers that look random and are the same in every run (xorshift).
fn next(state: &mut u32) -> u32 {
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    *state
}

fn measures(_: &crate::plan::Plan) -> Vec<Measure> {
    CONDITIONS.iter().map(|condition| measure(condition.name, condition.title, "", 0, How::Largest)).collect()
}

fn round(round: &mut Round) -> Result<()> {
    for condition in &CONDITIONS {
        let special = condition.cookies || condition.strays || condition.scan;
        if special && (round.contender.is_node() || round.contender.name == "libuv") {
            continue;
        }
        let inside = match special.then(Namespace::enter).transpose() {
            Ok(inside) => inside,
            Err(error) => {
                round.remark(format!("not measured: {} (needs CAP_SYS_ADMIN): {error}", condition.title));
                continue;
            }
        };
        if let Some(inside) = inside.as_ref().filter(|_| condition.cookies) {
            inside.force_cookies()?;
        }
        let mut server = Server::start(round.shop, round.contender, Shape::workers(4))?;
        let spread = connect(&mut server, condition, round.plan.spread);
        match spread {
            Ok(spread) => round.note(condition.name, spread),
            Err(Error::Unavailable(why)) => round.remark(format!("not measured: {}: {why}", condition.title)),
            Err(error) => return Err(error),
        }
        server.stop()?;
        if let Some(inside) = inside.as_ref().filter(|_| condition.cookies) {
            let accepted = inside.counter("SyncookiesRecv");
            if accepted < round.plan.spread as u64 {
                return fail(format!("{accepted} of {} connections were made by SYN cookies", round.plan.spread));
            }
        }
    }
    Ok(())
}

fn connect(server: &mut Server, condition: &Condition, connections: usize) -> Result<f64> {
    let target = server.target();
    let mut stray = Stray::new(server.ports[0]).ok().filter(|_| condition.strays || condition.scan);
    if stray.is_none() && (condition.strays || condition.scan) {
        return Err(Error::Unavailable("raw sockets need CAP_NET_RAW".into()));
    }
    let mut outcome = Ok(());
    let counts = server.counts()?;
    let mut random = 2_463_534_242;
    target.ring(connections, condition.outstanding, |_| {
        if let Some(stray) = &mut stray
            && next(&mut random).is_multiple_of(STRAY_EVERY)
            && outcome.is_ok()
        {
            outcome = if condition.scan { stray.scan() } else { stray.send() };
        }
    })?;
    outcome?;
    let served = server.check_served(&counts, connections as u64)?;
    let most = served.iter().max().copied().unwrap_or(0);
    Ok((most - served.iter().min().copied().unwrap_or(0)) as f64)
}
