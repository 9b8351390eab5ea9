//! What a fleet does while there is nothing to do.

use std::time::Duration;

use cluster_bench::error::Result;
use cluster_bench::process;
use nix::unistd::Pid;

use super::{Asked, end, reload};
use crate::client::Load;
use crate::contender::Contender;
use crate::scenarios::Rig;
use crate::server::{Server, Shape};

fn wakes(pids: &[Pid]) -> Result<Vec<u64>> {
    pids.iter().map(|pid| Ok(process::wakes(*pid)? as u64)).collect()
}

pub fn run(rig: &mut Rig, contender: Contender) -> Result<()> {
    let seconds = if rig.quick { 3 } else { 60 };
    let mut server = Server::start(rig.shop, contender, Shape { fleet: true, ..Shape::default() })?;
    Load::new(server.port, 200.0).count(100).run()?;
    let asked = Asked { parallel: 4, min_ready: 100, ready_timeout: 10_000, fate: "good" };
    let (outcome, why) = reload(&mut server, &asked)?;
    if outcome != "done" {
        rig.breach(contender, &format!("{outcome}: {why}"));
    }
    server.await_serving(4, Duration::from_secs(20));
    Load::new(server.port, 200.0).count(100).run()?;
    let mut pids = vec![server.primary()];
    pids.extend(server.serving().iter().map(|(_, worker)| Pid::from_raw(worker.pid as i32)));
    // Until nothing has come for two audits, an address is looked at.
    std::thread::sleep(Duration::from_secs(6));
    let before = wakes(&pids)?;
    std::thread::sleep(Duration::from_secs(seconds));
    let woken: Vec<u64> = wakes(&pids)?.iter().zip(&before).map(|(now, before)| now - before).collect();
    let all: u64 = woken.iter().sum();
    let row = format!("wake-ups of an idle primary and its workers in {seconds} s after a reload");
    rig.row(contender, &row, all.to_string(), "0", all == 0);
    if all > 0 {
        rig.breach(contender, &format!("woken while idle: {woken:?}"));
    }
    end(rig, contender, server);
    Ok(())
}
