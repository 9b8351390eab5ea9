//! What this process is, and the one primary or worker it holds. The C interface and plain Rust programs use this;
//! a program that drives a [`Primary`] from a thread of its own need not.

use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use crate::address::Address;
use crate::error::{Context, Error, Result};
use crate::options::SocketOption;
use crate::primary::{Event, Forked, Permits, Plan, Primary, SpawnOptions, StopRequest};
use crate::settings::Settings;
use crate::sys::fork_guard::ForkGuard;
use crate::sys::panics::point;
use crate::sys::signal::{SignalCell, StopSignals, StopSignalsBlocked};
use crate::sys::worker_signals;
use crate::worker::{self, Found, ListenOptions, Listener, Worker};

struct Process {
    guard: ForkGuard,
    place: RwLock<Place>,
    primary: Mutex<Option<Primary>>,
    /// A thread is in `step`.
    stepping: AtomicBool,
    signals: Mutex<Option<StopSignals>>,
    /// Held while settings are changed: what names mean in them is looked up without the primary's own lock.
    configuring: Mutex<()>,
    /// `serve` runs: its workers hold a group's signals.
    serving: AtomicBool,
}

/// What this process is. A worker is one for good, whatever fails.
enum Place {
    Alone,
    Stray(Error),
    Worker(Arc<Worker>),
    Unjoined { id: u32, slot: u32, error: Error },
}

impl Place {
    fn is_worker(&self) -> bool {
        matches!(self, Place::Worker(_) | Place::Unjoined { .. })
    }
}

impl From<Found> for Place {
    fn from(found: Found) -> Self {
        match found {
            Found::Alone => Place::Alone,
            Found::Stray(error) => Place::Stray(error),
            Found::Worker(worker) => Place::Worker(Arc::new(worker)),
            Found::Unjoined { id, slot, error } => Place::Unjoined { id, slot, error },
        }
    }
}

/// Which worker this process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Its id.
    pub id: u32,
    /// Its slot.
    pub slot: u32,
}

static PROCESS: OnceLock<Option<Process>> = OnceLock::new();
/// For `stop`, which may be called in a signal handler.
static STOP: SignalCell<StopRequest> = SignalCell::empty();

fn process() -> Result<&'static Process> {
    point();
    let process = PROCESS.get_or_init(|| {
        Some(Process {
            guard: ForkGuard::new()?,
            place: RwLock::new(adopt_from_environment().into()),
            primary: Mutex::new(None),
            stepping: AtomicBool::new(false),
            signals: Mutex::new(None),
            configuring: Mutex::new(()),
            serving: AtomicBool::new(false),
        })
    });
    match process {
        None => Err(Error::new(-libc::ENOMEM, "no memory for a page")),
        Some(process) if process.guard.is_forked() => Err(Error::forked()),
        Some(process) => Ok(process),
    }
}

fn adopt_from_environment() -> Found {
    let wanted = crate::env::take_worker_signals();
    let found = worker::adopt_from_environment();
    if let (true, Found::Worker(worker)) = (wanted, &found) {
        hold_signals(worker);
    }
    found
}

/// Where it cannot be had, the signals do what they always do.
fn hold_signals(worker: &Worker) {
    if let Ok(held) = worker.hold_signals() {
        worker_signals::unblock(&held);
    }
}

/// An error in a process that a plain fork(2) made out of a member; its calls must touch nothing.
pub fn check_not_forked() -> Result<()> {
    process().map(|_| ())
}

fn place(process: &Process) -> std::sync::RwLockReadGuard<'_, Place> {
    process.place.read().unwrap_or_else(PoisonError::into_inner)
}

/// Which worker this process is, `None` in a primary and in a process that no cluster started. Also of a worker that could not
/// join its primary.
pub fn identity() -> Result<Option<Identity>> {
    Ok(match &*place(process()?) {
        Place::Alone | Place::Stray(_) => None,
        Place::Worker(worker) => Some(Identity { id: worker.id(), slot: worker.slot() }),
        Place::Unjoined { id, slot, .. } => Some(Identity { id: *id, slot: *slot }),
    })
}

/// This process as a worker, `None` in a primary and in a process that no cluster started; in a worker that could not join its
/// primary an error that says why.
pub fn worker() -> Result<Option<Arc<Worker>>> {
    place(process()?).worker()
}

/// As `worker`, for a signal handler: it waits for no lock and takes no memory.
pub fn worker_in_handler() -> Result<Option<Arc<Worker>>> {
    // Written only while a worker is being made.
    let Ok(place) = process()?.place.try_read() else {
        return Err(Error::new(-libc::EAGAIN, "this worker is being made; ask again"));
    };
    place.worker()
}

impl Place {
    fn worker(&self) -> Result<Option<Arc<Worker>>> {
        match self {
            Place::Alone | Place::Stray(_) => Ok(None),
            Place::Worker(worker) => Ok(Some(Arc::clone(worker))),
            Place::Unjoined { error, .. } => Err(error.clone()),
        }
    }
}

/// This process as a worker, or an error that says what the call is for.
pub fn require_worker(sentence: &'static str) -> Result<Arc<Worker>> {
    worker()?.ok_or_else(|| Error::wrong_role(sentence))
}

/// Listens: in a worker on a share of the primary's socket, elsewhere on a socket of this process's own.
pub fn listen(address: &str, options: ListenOptions) -> Result<Listener> {
    match worker()? {
        Some(worker) => worker.listen(address, options),
        None => worker::listen_alone(Address::parse(address)?, options),
    }
}

/// Closes a listener of `listen`.
pub fn close(listener: &Listener) -> Result<()> {
    match worker()? {
        Some(worker) => worker.close(listener),
        None => listener.close_alone(),
    }
    Ok(())
}

impl Listener {
    /// Sets a socket option of the listening address, with every mechanism: on all its sockets and those that are made for later
    /// workers, for the connections that come from now on. A worker waits for the primary's answer, which judges it as the options
    /// of a listen (docs/socket-options.md); on a socket of this process's own the kernel alone does. An error: nothing is changed.
    pub fn set_option(&self, option: &SocketOption) -> Result<()> {
        match worker()? {
            Some(worker) => worker.set_option(self, option),
            None => self.set_own_option(option),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    point();
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn primary_of(process: &Process) -> Result<MutexGuard<'_, Option<Primary>>> {
    let stray = match &*place(process) {
        Place::Alone => None,
        Place::Stray(error) => Some(error.clone()),
        Place::Worker(_) | Place::Unjoined { .. } => {
            return Err(Error::wrong_role("this process is a worker; only a primary can do that"));
        }
    };
    let mut slot = lock(&process.primary);
    if slot.is_none() {
        let mut primary = Primary::new(Settings::default())?;
        if let Some(error) = stray.or_else(worker::stray_channel) {
            primary.start_no_workers(error);
        }
        STOP.set(Some(primary.stop_request()));
        *slot = Some(primary);
    }
    Ok(slot)
}

/// Uses this process's primary, which is made on first use. Must not be nested.
pub fn with_primary<T>(use_it: impl FnOnce(&mut Primary) -> Result<T>) -> Result<T> {
    match primary_of(process()?)?.as_mut() {
        Some(primary) => {
            point();
            use_it(primary)
        }
        None => Err(Error::wrong_role("this process has no primary")),
    }
}

/// Changes the primary's settings. Names in the listen rules are looked up here, which may wait for a name server; the primary goes
/// on serving meanwhile.
pub fn configure(change: impl FnOnce(&mut Settings) -> Result<()>) -> Result<()> {
    let _alone = lock(&process()?.configuring);
    let before = with_primary(|primary| Ok(primary.settings().clone()))?;
    let mut settings = before.clone();
    change(&mut settings)?;
    settings.check()?;
    let permits = match settings.listen_allow == before.listen_allow {
        true => None,
        false => Some(settings.listen_allow.as_deref().map(Permits::new).transpose()?),
    };
    with_primary(|primary| primary.configure_with(settings, permits))
}

/// Starts a program as a worker; its id. Users and groups are looked up here, which may wait for a directory service; the primary
/// goes on serving meanwhile.
pub fn spawn(options: &SpawnOptions) -> Result<u32> {
    with_primary(|primary| primary.check_may_start())?;
    let plan = Plan::new(options)?;
    with_primary(|primary| primary.spawn_planned(plan))
}

/// The number of the primary's descriptor, for a loop of the program's own: readable when `step` has something to do.
pub fn poll_fd() -> Result<RawFd> {
    with_primary(|primary| Ok(primary.poller().as_fd().as_raw_fd()))
}

/// Asks the primary to stop. `None`: with the settings' deadline. Async-signal-safe, and for that reason its error is
/// a bare code.
pub fn stop(deadline: Option<Duration>) -> std::result::Result<(), i32> {
    point();
    if let Some(Some(process)) = PROCESS.get() {
        if process.guard.is_forked() {
            return Err(-libc::ECHILD);
        }
        // Written only while a worker is being made, with the stop signals blocked.
        if process.place.try_read().is_ok_and(|place| place.is_worker()) {
            return Err(-libc::EPERM);
        }
    }
    STOP.with(|request| request.stop(deadline));
    Ok(())
}

/// What `fork`, `run` and `step` return in a new worker, or in the primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side<T> {
    /// In the primary.
    Primary(T),
    /// In a worker that this very call made.
    Worker,
}

/// Makes a worker by fork(2).
pub fn fork() -> Result<Side<u32>> {
    fork_by(process()?, Primary::fork)
}

fn fork_by(process: &Process, fork: impl FnOnce(&mut Primary) -> Result<Forked>) -> Result<Side<u32>> {
    let mut slot = primary_of(process)?;
    let Some(primary) = slot.as_mut() else {
        return Err(Error::wrong_role("this process has no primary"));
    };
    let mut blocked = StopSignalsBlocked::new().context("pthread_sigmask")?;
    let holds = process.serving.load(Ordering::SeqCst) || primary.settings().worker_signals;
    match fork(primary)? {
        Forked::Primary(id) => Ok(Side::Primary(id)),
        Forked::Worker { id, slot: place, channel } => {
            // Everything the primary had open is closed here; what is shared with it is left as it is.
            *slot = None;
            drop(slot);
            become_worker(process, Identity { id, slot: place }, channel, holds, &mut blocked);
            Ok(Side::Worker)
        }
    }
}

fn become_worker(
    process: &Process,
    Identity { id, slot }: Identity,
    channel: OwnedFd,
    holds: bool,
    blocked: &mut StopSignalsBlocked,
) {
    process.guard.renew();
    crate::env::mark_worker();
    STOP.set(None);
    // What the primary had blocked before it handled them is blocked in its worker, whoever forks it.
    if let Some(signals) = lock(&process.signals).take() {
        blocked.keep(signals.blocked_before());
    }
    process.serving.store(false, Ordering::SeqCst);
    process.stepping.store(false, Ordering::SeqCst);
    let place = match Worker::adopt(channel) {
        Ok(worker) => {
            // Not even asked for where nobody wants it: it installs.
            if let Some(Ok(held)) = holds.then(|| worker.hold_signals()) {
                blocked.release(&held);
            }
            Place::Worker(Arc::new(worker))
        }
        Err(error) => Place::Unjoined { id, slot, error: worker::unjoined(&error) },
    };
    *process.place.write().unwrap_or_else(PoisonError::into_inner) = place;
}

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

/// One turn of the primary: waits up to `timeout` (`None`: as long as it takes), does what is due, and hands out what
/// happened; returns how much that was. `Side::Worker` in the replacement of a worker that was made by `fork`.
pub fn step(timeout: Option<Duration>, mut on_event: impl FnMut(Event)) -> Result<Side<usize>> {
    let process = process()?;
    let _stepping = Stepping::begin(process)?;
    turn(process, timeout, &mut on_event)
}

fn turn(process: &'static Process, timeout: Option<Duration>, on_event: &mut dyn FnMut(Event)) -> Result<Side<usize>> {
    // Without the lock, so that other threads can use the primary meanwhile. Nothing of the poller is kept beyond the
    // wait: a callback may fork, and the worker is to hold none of it.
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
    while let Some(slot) = with_primary(|primary| Ok(primary.take_due_fork()))? {
        match fork_by(process, |primary| primary.fork_into(slot)) {
            Ok(Side::Worker) => return Ok(Side::Worker),
            Ok(Side::Primary(_)) => {}
            Err(error) => with_primary(|primary| {
                primary.retry_respawn(slot, &error);
                Ok(())
            })?,
        }
    }
    Ok(Side::Primary(()))
}

/// Runs the primary until every worker is gone and none is due, or a stop is complete. Where nothing ever listened and every
/// slot failed three times running by what the primary knows itself, it stops the others and returns why.
pub fn run(mut on_event: impl FnMut(Event)) -> Result<Side<()>> {
    let process = process()?;
    let _stepping = Stepping::begin(process)?;
    run_until_idle(process, &mut on_event)
}

/// SIGTERM and SIGINT are requests to stop from here on, until `run_until_idle` returns.
fn take_signals(process: &Process) -> Result<()> {
    let stop = with_primary(|primary| Ok(primary.stop_request()))?;
    let mut signals = lock(&process.signals);
    if signals.is_none() {
        *signals = Some(StopSignals::install(stop.wake()).context("sigaction")?);
    }
    Ok(())
}

fn run_until_idle(process: &'static Process, on_event: &mut dyn FnMut(Event)) -> Result<Side<()>> {
    let handle_signals = with_primary(|primary| Ok(primary.settings().handle_signals))?;
    if handle_signals {
        take_signals(process)?;
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
        let count = StopSignals::count();
        if handle_signals && count > signals {
            // The first asks, a second means "now".
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
    // Before the first worker is there: one that comes while the others are made cuts nothing short.
    take_signals(process)?;
    let _serving = Stepping::mark(&process.serving);
    for _ in 0..workers.unwrap_or_else(usable_cpus).max(1) {
        match fork_by(process, Primary::fork) {
            Ok(Side::Primary(_)) => {}
            Ok(Side::Worker) => crate::sys::process::exit(worker_main()),
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
        Side::Worker => crate::sys::process::exit(worker_main()),
    }
}
