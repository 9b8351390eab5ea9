//! Running this process's primary: turn by turn, until it is idle, or with workers that it makes itself.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::place::hold_signals;
use super::{Process, STOP, Side, configure, fork_by, identity, process, with_primary, worker};
use crate::error::{Context, Error, Result};
use crate::primary::{Event, Primary};
use crate::sys::lock;
use crate::sys::process::exit;
use crate::sys::reload_signals::{Asked, ReloadSignals};
use crate::sys::signal::StopSignals;

/// Marks that a thread is in `step`, for as long as it lives.
struct Stepping<'a>(&'a AtomicBool);

impl<'a> Stepping<'a> {
    fn begin(process: &'a Process) -> Result<Self> {
        if process.stepping.swap(true, Ordering::SeqCst) {
            return Err(Error::new(
                -libc::EBUSY,
                "the primary is being run already, by a callback's caller or another thread",
            ));
        }
        Ok(Self(&process.stepping))
    }

    fn mark(flag: &'a AtomicBool) -> Self {
        flag.store(true, Ordering::SeqCst);
        Self(flag)
    }
}

impl Drop for Stepping<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

/// One turn of the primary: waits up to `timeout` (`None`: as long as it takes), does what is due, and hands out the events; returns
/// how many these were. `Side::Worker` in the replacement of a worker that was made by `fork`.
pub fn step(timeout: Option<Duration>, mut on_event: impl FnMut(Event)) -> Result<Side<usize>> {
    let process = process()?;
    let _stepping = Stepping::begin(process)?;
    turn(process, timeout, &mut on_event)
}

fn turn(process: &'static Process, timeout: Option<Duration>, on_event: &mut dyn FnMut(Event)) -> Result<Side<usize>> {
    // Waits without the lock, so that other threads can use the primary meanwhile. Keeps nothing of the poller after the wait: a
    // callback may fork, and the worker must hold none of it.
    let ready = with_primary(|primary| Ok(primary.poller()))?.wait(timeout)?;
    with_primary(|primary| {
        primary.dispatch(&ready);
        Ok(())
    })?;
    if replace_forked(process)? == Side::Worker {
        return Ok(Side::Worker);
    }
    let events = with_primary(|primary| Ok(primary.take_events()))?;
    let count = events.len();
    for event in events {
        on_event(event);
        if identity()?.is_some() {
            // The callback forked, and this is the worker.
            return Ok(Side::Worker);
        }
    }
    Ok(Side::Primary(count))
}

/// Forks the replacements that are due.
fn replace_forked(process: &Process) -> Result<Side<()>> {
    while let Some(due) = with_primary(|primary| Ok(primary.take_due_fork()))? {
        match fork_by(process, |primary| primary.fork_due(due)) {
            Ok(Side::Worker) => return Ok(Side::Worker),
            Ok(Side::Primary(_)) => {}
            Err(error) => with_primary(|primary| {
                primary.due_failed(due, &error);
                Ok(())
            })?,
        }
    }
    Ok(Side::Primary(()))
}

/// Runs the primary until every worker is gone and none is due, or a stop is complete. If nothing ever listened and every slot failed
/// three times running for a reason that the primary knows, it stops the others and returns why.
pub fn run(mut on_event: impl FnMut(Event)) -> Result<Side<()>> {
    let process = process()?;
    let _stepping = Stepping::begin(process)?;
    run_until_idle(process, &mut on_event)
}

/// From here until `run_until_idle` returns, SIGTERM and SIGINT are requests to stop.
fn take_signals(process: &Process) -> Result<()> {
    let stop = with_primary(|primary| Ok(primary.stop_request()))?;
    let mut signals = lock(&process.signals);
    if signals.is_none() {
        *signals = Some(StopSignals::install(stop.wake()).context("sigaction")?);
    }
    Ok(())
}

/// The same for SIGHUP, SIGTTIN and SIGTTOU.
fn take_reload_signals(process: &Process) -> Result<()> {
    let stop = with_primary(|primary| Ok(primary.stop_request()))?;
    let mut signals = lock(&process.reload_signals);
    if signals.is_none() {
        *signals = Some(ReloadSignals::install(stop.wake()).context("sigaction")?);
    }
    Ok(())
}

fn run_until_idle(process: &'static Process, on_event: &mut dyn FnMut(Event)) -> Result<Side<()>> {
    let (handle_signals, handle_reload) = with_primary(|primary| {
        let settings = primary.settings();
        Ok((settings.handle_signals, settings.handle_reload))
    })?;
    if handle_signals {
        take_signals(process)?;
    }
    if handle_reload {
        take_reload_signals(process)?;
    }
    with_primary(|primary| {
        primary.end_when_idle(true);
        Ok(())
    })?;
    let outcome = turns_until_idle(process, handle_signals, on_event);
    if matches!(outcome, Ok(Side::Primary(())) | Err(_)) {
        let _ = with_primary(|primary| {
            primary.end_when_idle(false);
            Ok(())
        });
    }
    if !matches!(outcome, Ok(Side::Worker)) {
        *lock(&process.signals) = None;
        *lock(&process.reload_signals) = None;
    }
    outcome
}

fn turns_until_idle(
    process: &'static Process,
    handle_signals: bool,
    on_event: &mut dyn FnMut(Event),
) -> Result<Side<()>> {
    let mut signals = 0;
    let mut failure = None;
    loop {
        let idle = with_primary(|primary| {
            let idle = primary.is_idle();
            if idle {
                primary.finish();
            }
            Ok(idle)
        })?;
        if idle {
            return failure.map_or(Ok(Side::Primary(())), Err);
        }
        if turn(process, None, on_event)? == Side::Worker {
            return Ok(Side::Worker);
        }
        if failure.is_none() {
            failure = with_primary(|primary| Ok(primary.give_up()))?;
        }
        let asked = ReloadSignals::take();
        if asked != Asked::default() {
            with_primary(|primary| {
                primary.obey(asked);
                Ok(())
            })?;
        }
        let count = StopSignals::count();
        if handle_signals && count > signals {
            // The first asks; a second means "now".
            STOP.with(|request| request.stop(if count == 1 { None } else { Some(Duration::ZERO) }));
            signals = count;
        }
    }
}

/// The number of CPUs this process may use: its affinity and its cgroup's quota.
pub fn usable_cpus() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Forks workers that run `worker_main`, supervises and replaces them until the cluster is stopped. `None` workers:
/// one for each usable CPU. In a worker it runs `worker_main` and ends the process with its result, and in a process
/// that was started as a worker it returns that result.
pub fn serve(
    workers: Option<usize>,
    mut worker_main: impl FnMut() -> i32,
    mut on_event: impl FnMut(Event),
) -> Result<i32> {
    if let Some(worker) = worker()? {
        hold_signals(&worker);
        return Ok(worker_main());
    }
    let process = process()?;
    let stepping = Stepping::begin(process)?;
    with_primary(|primary| {
        primary.respawn_by_default(true);
        Ok(())
    })?;
    configure(|settings| {
        settings.handle_signals = true;
        Ok(())
    })?;
    // Before the first worker exists, so that a signal during the start cuts nothing short.
    take_signals(process)?;
    let _serving = Stepping::mark(&process.serving);
    for _ in 0..workers.unwrap_or_else(usable_cpus).max(1) {
        match fork_by(process, Primary::fork) {
            Ok(Side::Primary(_)) => {}
            Ok(Side::Worker) => exit(worker_main()),
            Err(error) => {
                with_primary(|primary| {
                    primary.stop(Duration::ZERO);
                    Ok(())
                })?;
                run_until_idle(process, &mut on_event)?;
                return Err(error);
            }
        }
    }
    let outcome = run_until_idle(process, &mut on_event)?;
    drop(stepping);
    match outcome {
        Side::Primary(()) => Ok(0),
        Side::Worker => exit(worker_main()),
    }
}
