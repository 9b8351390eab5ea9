//! Under SOURCE_HASH a client stays with its slot while the worker in it is replaced.

use std::collections::{BTreeMap, BTreeSet};

use cluster_bench::error::Result;
use cluster_bench::page::number;

use super::{Asked, end, rate, reload, tell_lost};
use crate::client::{Load, Origins};
use crate::contender::Contender;
use crate::harm::Harmed;
use crate::oracle::{Entry, Outcome};
use crate::scenarios::{Rig, go_on_for, under_load};
use crate::server::{Server, Shape};

const CLIENTS: u8 = 64;
/// By its port a request is known as its client's: so many are a multiple of the clients.
const PORTS: (u16, u16) = (1100, 24 * 1024);

pub fn run(rig: &mut Rig, contender: Contender) -> Result<()> {
    let reloads = if rig.quick { 2 } else { 20 };
    let origins = Origins { first: [127, 0, 0, 11], addresses: CLIENTS, ports: PORTS };
    let shape = Shape { fleet: true, ..Shape::default() };
    let load = Load { from: Some(origins), ..Load::new(0, rate(rig, contender)) };
    let (mut server, running) = under_load(rig, contender, shape, load)?;
    go_on_for(&running, 500);
    for done in 0..reloads {
        let asked = Asked { parallel: 1 + done % 4, min_ready: 100, ready_timeout: 10_000, fate: "good" };
        let (outcome, why) = reload(&mut server, &asked)?;
        if outcome != "done" {
            rig.breach(contender, &format!("reload {done}: {outcome}: {why}"));
        }
        go_on_for(&running, 200);
    }
    let entries = running.finish()?;
    let what = format!("{reloads} reloads under SOURCE_HASH");
    let verdict = rig.judge(&server, &entries, &Harmed::default(), &what)?;
    tell_lost(rig, contender, &what, &verdict);
    let seen = slots_of_clients(&server, &entries);
    let moved = seen.values().filter(|slots| slots.len() > 1).count();
    let used: BTreeSet<u64> = seen.values().flatten().copied().collect();
    let row = format!("{what}: clients of {} that were served in more than one slot", number(seen.len() as f64, 0));
    rig.row(contender, &row, moved.to_string(), "0", moved == 0);
    if moved > 0 || seen.len() < usize::from(CLIENTS) || used.len() < shape.workers {
        rig.breach(contender, &format!("{moved} of {} clients moved between the slots {used:?}", seen.len()));
    }
    end(rig, contender, server);
    Ok(())
}

/// By client, where it was served.
fn slots_of_clients(server: &Server, entries: &[Entry]) -> BTreeMap<u16, BTreeSet<u64>> {
    let told = server.told();
    let slots: BTreeMap<u32, u64> =
        told.workers.values().filter_map(|worker| Some((worker.pid, worker.slot?))).collect();
    let mut seen: BTreeMap<u16, BTreeSet<u64>> = BTreeMap::new();
    for entry in entries {
        if let Outcome::Answered { pid, .. } = entry.outcome
            && let Some(slot) = slots.get(&pid)
        {
            seen.entry((entry.port - PORTS.0) % u16::from(CLIENTS)).or_default().insert(*slot);
        }
    }
    seen
}
