//! Kills for longer than any back-off bears, with default settings: is somebody there for every client?

use std::time::Duration;

use cluster_bench::error::Result;
use cluster_bench::page::number;

use super::{Rig, milliseconds, under_load};
use crate::chaos::{execute, storm};
use crate::client::Load;
use crate::clock::ms;
use crate::contender::Contender;
use crate::harm::Harmed;
use crate::oracle::Outcome;
use crate::server::Shape;

const EVERY: u64 = 250;

pub fn run(rig: &mut Rig, contender: Contender) -> Result<()> {
    // `make test` runs on machines that are busy with other things.
    let (kills, rate) = if rig.quick { (16, 250.0) } else { (60, 1000.0) };
    let seed = rig.seeds.first().copied().unwrap_or(1);
    let shape = Shape { work_us: 500, ..Shape::default() };
    let (mut server, running) = under_load(rig, contender, shape, Load::new(0, rate))?;
    let mut harmed = Harmed::default();
    let done = execute(&mut server, &storm(seed, EVERY, kills), &mut harmed);
    let entries = running.finish()?;
    done?;
    if !server.await_serving(shape.workers, Duration::from_secs(10)) {
        rig.breach(contender, &format!("{} of {} workers serve", server.serving().len(), shape.workers));
    }
    let verdict = rig.judge(&server, &entries, &harmed, "a kill storm")?;
    let answered = entries.iter().filter(|entry| matches!(entry.outcome, Outcome::Answered { .. }));
    let longest = answered.map(|entry| ms(entry.ended - entry.begun)).fold(0.0, f64::max);
    let seconds = number((kills * EVERY) as f64 / 1000.0, 0);
    let runs = format!("{} kills in {seconds} s, {} connections", harmed.kills(), number(verdict.requests as f64, 0));
    rig.row(contender, &format!("waited for over 2 s ({runs})"), verdict.hung.to_string(), "0", verdict.hung == 0);
    rig.row(contender, "refused", verdict.refused.to_string(), "0", verdict.refused == 0);
    rig.row(contender, "killed, of those that were to be", harmed.kills().to_string(), "", true);
    rig.row(contender, "the longest wait for an answer, ms", milliseconds(longest), "", true);
    server.stop()
}
