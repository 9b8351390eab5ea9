//! The new workers are no good: nothing is taken from the old ones.

use cluster_bench::error::Result;

use super::{Asked, end, rate, reload, tell_lost};
use crate::client::Load;
use crate::contender::Contender;
use crate::harm::Harmed;
use crate::scenarios::{Rig, go_on_for, split, under_load};
use crate::server::{Server, Shape};

/// What the workers of a reload do, and a word of the reason that is to be told. The engine does not know how a worker in Node ended.
const FATES: [(&str, &str); 5] = [
    ("exits", "before it was ready"),
    ("crashes", "before it was ready"),
    ("hangs", "listens on nothing"),
    ("less", "does not listen on"),
    ("unready", "has not said that it is ready"),
];

fn pids(server: &Server, harmed: &Harmed) -> Vec<u32> {
    let serving = server.serving();
    serving.iter().map(|(_, worker)| worker.pid).filter(|pid| !harmed.was_killed(*pid)).collect()
}

pub fn run(rig: &mut Rig, contender: Contender) -> Result<()> {
    let shape = Shape { fleet: true, ..Shape::default() };
    let (mut server, running) = under_load(rig, contender, shape, Load::new(0, rate(rig, contender)))?;
    let mut harmed = Harmed::default();
    let old = pids(&server, &harmed);
    let timeout = match (rig.quick, contender.is_c()) {
        (true, true) => 500,
        _ => 2000,
    };
    let (mut refused, mut others) = (0, Vec::new());
    for (fate, reason) in FATES {
        let asked = Asked { parallel: 2, min_ready: 300, ready_timeout: timeout, fate };
        let (outcome, why) = reload(&mut server, &asked)?;
        let theirs: Vec<u32> = server.told().workers.values().map(|worker| worker.pid).collect();
        harmed.doomed.extend(theirs.into_iter().filter(|pid| !old.contains(pid)));
        if outcome == "refused" && why.contains(reason) {
            refused += 1;
        } else {
            others.push(format!("{fate}: {outcome}, {why}"));
        }
        go_on_for(&running, 100);
    }
    let entries = running.finish()?;
    let verdict = rig.judge(&server, &entries, &harmed, "new workers that are no good")?;
    let what = "reloads to workers that exit, crash, hang, listen on less, are never ready";
    let measured = if others.is_empty() { format!("{refused} of 5") } else { others.join("; ") };
    rig.row(contender, &format!("{what}: refused, with the reason"), measured, "5 of 5", refused == FATES.len());
    others.iter().for_each(|other| rig.breach(contender, other));
    tell_lost(rig, contender, what, &verdict);
    old_ones_serve(rig, contender, &server, (&old, &harmed))?;
    end(rig, contender, server);
    Ok(())
}

fn old_ones_serve(
    rig: &mut Rig,
    contender: Contender,
    server: &Server,
    (old, harmed): (&[u32], &Harmed),
) -> Result<()> {
    let same = pids(server, harmed) == old;
    rig.row(contender, "the old workers are the same ones", if same { "yes" } else { "no" }.into(), "yes", same);
    // In rotation somebody may be asked more often than the others, but none is left out; without turns one may get all.
    let (connections, most) = match (contender.is_in_turns(), contender.policy) {
        (true, _) => (200, 1),
        (false, "none") => (200, 200),
        (false, _) => (400, 399),
    };
    let mut difference = split(server, connections, 200.0, 1 << 40)?;
    // On a machine that is busy with other things a worker may well not run for so long that it is passed over.
    for attempt in 2..=3 {
        if difference > most {
            difference = split(server, connections, 200.0, attempt << 40)?;
        }
    }
    let goal = if contender.is_in_turns() { "<= 1" } else { "" };
    let row = format!("of {connections} connections afterwards: the most minus the least of a worker");
    rig.row(contender, &row, difference.to_string(), goal, difference <= most);
    if !same || difference > most {
        rig.breach(contender, &format!("the old workers have lost something: {same}, {difference}"));
    }
    Ok(())
}
