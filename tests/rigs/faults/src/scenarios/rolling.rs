//! One worker after the other is replaced while requests come in, on connections of their own and on ones that stay open.

use std::time::Duration;

use cluster_bench::error::{Result, fail};
use cluster_bench::page::number;

use super::{Rig, begin, under_load};
use crate::client::{Load, Wanted};
use crate::clock::wait_until;
use crate::contender::Contender;
use crate::harm::Harmed;
use crate::oracle::Verdict;
use crate::server::Shape;

pub fn run(rig: &mut Rig, contender: Contender) -> Result<()> {
    let (replacements, requests) = if rig.quick { (15, 3000) } else { (200, 100_000) };
    let rate = if rig.quick { contender.rate() / 2.0 } else { contender.rate() };
    let shape = Shape { looping: true, ..Shape::default() };
    let (mut server, plain) = under_load(rig, contender, shape, Load::new(0, rate))?;
    let keep = Load { wanted: Wanted::Keep, connections: 64, ..Load::new(0, rate) };
    let keep = begin(&server, keep)?;
    for done in 0..replacements {
        // The oldest; ids grow.
        let Some((id, _)) = server.serving().first().copied() else { return fail("nobody serves") };
        server.command(&format!("replace {id}"))?;
        if !wait_until(Duration::from_secs(15), || server.told().replaced.contains(&id)) {
            return fail(format!("worker {id} was not replaced, after {done} others"));
        }
        // As many requests for each replacement as the figure asks for.
        let due = requests * (done + 1) / replacements;
        wait_until(Duration::from_secs(15), || plain.sent() + keep.sent() >= due);
    }
    let (plain, keep) = (plain.finish()?, keep.finish()?);
    let mut all = Verdict::default();
    // They are judged together: a claim is either one's.
    let entries = [plain, keep].concat();
    all.add(rig.judge(&server, &entries, &Harmed::default(), "rolling")?);
    let failed = all.requests - all.answered;
    let row = format!(
        "failed requests ({replacements} replacements, {} requests, half of them kept alive)",
        number(all.requests as f64, 0)
    );
    rig.row(contender, &row, failed.to_string(), "0", failed == 0);
    if let Err(error) = server.stop() {
        rig.breach(contender, &error.to_string());
    }
    Ok(())
}
