//! More and fewer workers, by the library itself.

use cluster_bench::error::{Result, fail};

use super::{PATIENCE, end, rate, tell_lost};
use crate::client::Load;
use crate::contender::Contender;
use crate::harm::Harmed;
use crate::scenarios::{Rig, go_on_for, under_load};
use crate::server::Shape;

pub fn run(rig: &mut Rig, contender: Contender) -> Result<()> {
    let rounds = if rig.quick { 1 } else { 20 };
    let shape = Shape { fleet: true, ..Shape::default() };
    let (mut server, running) = under_load(rig, contender, shape, Load::new(0, rate(rig, contender)))?;
    for workers in [16, 1, 8, 4].into_iter().cycle().take(4 * rounds) {
        server.command(&format!("scale {workers}"))?;
        if !server.await_serving(workers, PATIENCE) {
            return fail(format!("{} workers serve instead of {workers}", server.serving().len()));
        }
        go_on_for(&running, 100);
    }
    let entries = running.finish()?;
    let what = format!("4 to 16 to 1 to 8 workers, {rounds} times");
    let verdict = rig.judge(&server, &entries, &Harmed::default(), &what)?;
    tell_lost(rig, contender, &what, &verdict);
    end(rig, contender, server);
    Ok(())
}
