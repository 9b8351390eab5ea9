//! The primary is killed: its workers are to be gone and the port is to be free, whatever they are doing.

use std::net::TcpListener;
use std::time::Duration;

use cluster_bench::error::{Result, fail};
use cluster_bench::process;
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::{Rig, milliseconds};
use crate::client::Load;
use crate::clock::{self, ms, wait_until};
use crate::contender::Contender;
use crate::harm::Harmed;
use crate::server::{Server, Shape};

const STATES: [&str; 3] = ["idle", "computing", "stopped"];
const BUSY_MS: u64 = 8000;

pub fn run(rig: &mut Rig, contender: Contender) -> Result<()> {
    let rounds = if rig.quick { 1 } else { 20 };
    let rounds = if contender.is_c() { rounds } else { rounds.min(3) };
    for state in STATES {
        let mut worst: Option<f64> = Some(0.0);
        for _ in 0..rounds {
            let taken = one(rig, contender, state)?;
            worst = worst.and_then(|worst| Some(f64::max(worst, taken?)));
            if taken.is_none_or(|taken| taken > 1000.0) {
                let text = taken.map_or("not at all".into(), |taken| format!("{taken:.0} ms"));
                rig.breach(contender, &format!("{state} workers: gone and the port free after {text}"));
            }
        }
        let row = format!("{state} workers ({rounds} times): all gone and the port free, ms");
        let text = worst.map_or("never".into(), milliseconds);
        rig.row(contender, &row, text, "<= 1,000", worst.is_some_and(|worst| worst <= 1000.0));
    }
    Ok(())
}

/// How long it took; None: longer than was waited.
fn one(rig: &Rig, contender: Contender, state: &str) -> Result<Option<f64>> {
    let mut server = Server::start(rig.shop, contender, Shape { busy_ms: BUSY_MS, ..Shape::default() })?;
    let mut harmed = Harmed::default();
    let pids: Vec<u32> = server.serving().iter().map(|(_, worker)| worker.pid).collect();
    let workers: Vec<Pid> = pids.iter().map(|pid| Pid::from_raw(*pid as i32)).collect();
    Load::new(server.port, 1000.0).count(20).run()?;
    match state {
        "computing" => {
            pids.iter().for_each(|pid| harmed.keep_busy(*pid, BUSY_MS));
            // In its loop it has nothing to wait for.
            let used = |pid: &Pid| process::used(*pid).map_or(0.0, |(cpu, _)| cpu);
            let before: Vec<f64> = workers.iter().map(used).collect();
            let compute = || workers.iter().zip(&before).all(|(pid, before)| used(pid) > before + 30_000.0);
            if !wait_until(Duration::from_secs(5), compute) {
                return fail("the workers do not compute");
            }
        }
        "stopped" => process::stop(&workers)?,
        _ => {}
    }
    let (primary, port, begin) = (server.primary(), server.port, clock::now());
    process::signal(primary, Signal::SIGKILL);
    let is_free = || process::are_gone(&workers, Duration::ZERO) && TcpListener::bind(("127.0.0.1", port)).is_ok();
    let freed = wait_until(Duration::from_secs(5), is_free);
    let taken = ms(clock::now() - begin);
    server.clear_up();
    Ok(freed.then_some(taken))
}
