//! Workers that have done enough are replaced while requests come in, on connections of their own and on ones that stay open.

use std::time::Duration;

use cluster_bench::error::{Result, fail};

use super::{end, rate, tell_lost};
use crate::client::{Load, Wanted};
use crate::clock::wait_until;
use crate::contender::Contender;
use crate::harm::Harmed;
use crate::scenarios::{Rig, begin, under_load};
use crate::server::Shape;

/// Requests of a worker's lifetime, so that each look, five seconds apart, finds several.
const REQUESTS: u64 = 300;

pub fn run(rig: &mut Rig, contender: Contender) -> Result<()> {
    let times = if rig.quick { 2 } else { 67 };
    let grow_kb = 64;
    // A worker in Node counts requests of HTTP only.
    let requests = if contender.is_c() { "requests" } else { "connections" };
    // Of memory that a program has before it has served anyone, a part in Node.
    let memory = REQUESTS * grow_kb + if contender.is_c() { 0 } else { 24 << 10 };
    let patience = Duration::from_secs(if rig.quick { 30 } else { 600 });
    for (by, limit) in [("memory", memory), (requests, REQUESTS), ("age", 2)] {
        let grow_kb = if by == "memory" { grow_kb } else { 0 };
        let shape = Shape { fleet: true, workers: 8, looping: true, grow_kb, ..Shape::default() };
        let rate = rate(rig, contender) / 2.0;
        let (mut server, plain) = under_load(rig, contender, shape, Load::new(0, rate))?;
        let keep = Load { wanted: Wanted::Keep, connections: 64, first_id: 1 << 40, ..Load::new(0, rate) };
        let keep = begin(&server, keep)?;
        server.command(&format!("recycle {by} {limit}"))?;
        let came = wait_until(patience, || server.told().recycled >= times || server.told().silent);
        let recycled = server.told().recycled;
        server.command("recycle none 0")?;
        let entries = [plain.finish()?, keep.finish()?].concat();
        let what = format!("workers recycled by {by}, {times} times at least");
        let verdict = rig.judge(&server, &entries, &Harmed::default(), &what)?;
        if !came || recycled < times {
            return fail(format!("{recycled} workers were recycled by {by}"));
        }
        tell_lost(rig, contender, &what, &verdict);
        end(rig, contender, server);
    }
    Ok(())
}
