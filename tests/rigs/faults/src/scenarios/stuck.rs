//! One worker of four stands still for a while: who waits for it?

use std::time::Duration;

use cluster_bench::error::Result;

use super::{Rig, milliseconds, under_load};
use crate::client::Load;
use crate::clock::{self, ms, wait_until};
use crate::contender::Contender;
use crate::harm::Harmed;
use crate::oracle::Outcome;
use crate::report::STUCK;
use crate::server::Shape;

pub fn run(rig: &mut Rig, contender: Contender) -> Result<()> {
    let length = Duration::from_millis(match (rig.quick, contender.is_c()) {
        (true, _) => 800,
        (false, true) => 10_000,
        (false, false) => 4000,
    });
    let (mut longest, mut back) = (0.0f64, 0.0f64);
    for computing in [false, true] {
        let what = if computing { "computing" } else { "stopped" };
        let shape = Shape { busy_ms: length.as_millis() as u64, ..Shape::default() };
        // Whoever waits for the stuck one is to be seen waiting, not to be counted as hung.
        let load = Load {
            patience: length + Duration::from_secs(5),
            ..Load::new(0, if rig.quick { 500.0 } else { contender.rate() / 2.0 })
        };
        let (server, running) = under_load(rig, contender, shape, load)?;
        let Some((_, worker)) = server.serving().get(1).copied() else { continue };
        let mut harmed = Harmed::default();
        if computing {
            harmed.keep_busy(worker.pid, shape.busy_ms);
        } else {
            harmed.stop(worker.pid);
        }
        let begun = clock::now();
        std::thread::sleep(length);
        harmed.go_on(worker.pid);
        let end = if computing { begun + length.as_nanos() as u64 } else { clock::now() };
        let first = || {
            let claims = server.claims().unwrap_or_default();
            claims
                .iter()
                .filter(|claim| claim.pid == worker.pid && claim.time > end && claim.id == 0)
                .map(|claim| claim.time)
                .min()
        };
        wait_until(Duration::from_secs(3), || first().is_some());
        let first = first();
        let entries = running.finish()?;
        let verdict = rig.judge(&server, &entries, &harmed, what)?;
        longest = longest.max(verdict.longest);
        match first {
            Some(time) => back = back.max(ms(time - end)),
            None => {
                back = f64::INFINITY;
                rig.breach(contender, &format!("{what}: it was never given a connection again"));
            }
        }
        if !contender.is_stock() && entries.iter().any(|entry| !matches!(entry.outcome, Outcome::Answered { .. })) {
            rig.breach(contender, &format!("{what}: a connection was lost"));
        }
        if let Err(error) = server.stop() {
            rig.breach(contender, &format!("{what}: {error}"));
        }
    }
    rig.row(contender, STUCK, milliseconds(longest), "<= 250", longest <= 250.0);
    let text = if back.is_finite() { milliseconds(back) } else { "never".into() };
    rig.row(contender, "back in turn after it goes on, ms", text, "<= 100", back <= 100.0);
    Ok(())
}
