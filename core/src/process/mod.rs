//! What this process is, and the one primary or worker it holds. The C interface and plain Rust programs use this;
//! a program that drives a [`Primary`] from a thread of its own need not.

mod place;
mod running;

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use once_cell::sync::OnceCell;

pub use place::Identity;
use place::Place;
pub use running::{run, serve, step, usable_cpus};

use crate::address::Address;
use crate::error::{Context, Error, Result};
use crate::options::SocketOption;
use crate::primary::{Forked, Permits, Plan, Primary, ReloadOptions, Reloading, SpawnOptions, StopRequest};
use crate::settings::Settings;
use crate::sys::fork_guard::ForkGuard;
use crate::sys::panics::point;
use crate::sys::reload_signals::ReloadSignals;
use crate::sys::signal::{SignalCell, StopSignals, StopSignalsBlocked};
use crate::sys::{descriptor, lock};
use crate::worker::{self, ListenOptions, Listener, Worker};

struct Process {
    guard: ForkGuard,
    place: RwLock<Place>,
    primary: Mutex<Option<Primary>>,
    /// A thread is in `step`.
    stepping: AtomicBool,
    signals: Mutex<Option<StopSignals>>,
    reload_signals: Mutex<Option<ReloadSignals>>,
    /// Locked while settings are changed: names in them are looked up without the primary's lock.
    configuring: Mutex<()>,
    /// `serve` runs: its workers hold a group's signals.
    serving: AtomicBool,
}

static PROCESS: OnceCell<Process> = OnceCell::new();
/// For `stop`, which may be called in a signal handler.
static STOP: SignalCell<StopRequest> = SignalCell::empty();

fn process() -> Result<&'static Process> {
    point();
    let process = PROCESS.get_or_try_init(|| {
        // The one step that may fail comes first, because the environment says only once what this process is.
        let guard = ForkGuard::new().ok_or(Error::new(-libc::ENOMEM, "no memory for a page"))?;
        Ok(Process {
            guard,
            place: RwLock::new(Place::from_environment()),
            primary: Mutex::new(None),
            stepping: AtomicBool::new(false),
            signals: Mutex::new(None),
            reload_signals: Mutex::new(None),
            configuring: Mutex::new(()),
            serving: AtomicBool::new(false),
        })
    })?;
    if process.guard.is_forked() { Err(Error::forked()) } else { Ok(process) }
}

/// An error in a copy of a member that a plain fork(2) made. Its calls must touch nothing.
pub fn check_not_forked() -> Result<()> {
    process().map(|_| ())
}

fn place(process: &Process) -> RwLockReadGuard<'_, Place> {
    process.place.read().unwrap_or_else(PoisonError::into_inner)
}

/// Which worker this process is, also if it could not join its primary. `None` in a primary and in a process that no cluster started.
pub fn identity() -> Result<Option<Identity>> {
    Ok(place(process()?).identity())
}

/// This process as a worker. `None` in a primary and in a process that no cluster started. An error in a worker that could not join
/// its primary.
pub fn worker() -> Result<Option<Arc<Worker>>> {
    place(process()?).worker()
}

/// As `worker`, for a signal handler: waits for no lock and allocates nothing.
pub fn worker_in_handler() -> Result<Option<Arc<Worker>>> {
    // Locked for writing only while a worker is being made.
    let Ok(place) = process()?.place.try_read() else {
        return Err(Error::new(-libc::EAGAIN, "this worker is being made; ask again"));
    };
    place.worker()
}

/// This process as a worker, or an error that says what the call is for.
pub fn require_worker(sentence: &'static str) -> Result<Arc<Worker>> {
    worker()?.ok_or_else(|| Error::wrong_role(sentence))
}

/// Listens: in a worker on a share of the primary's address, elsewhere on a socket that this process opens itself.
pub fn listen(address: &str, options: ListenOptions) -> Result<Listener> {
    match worker()? {
        Some(worker) => worker.listen(address, options),
        None => Listener::alone(Address::parse(address)?, options, None),
    }
}

/// [`Listener::hand_back`] of a connection that is known by its number, and closed here after that.
pub fn hand_back(listener: &Listener, connection: RawFd) -> Result<()> {
    let none = || Error::new(-libc::EBADF, format!("{connection} is no descriptor"));
    descriptor::with_number(connection, |connection| listener.hand_back(connection)).ok_or_else(none)??;
    // Its file is in the primary's hands or farther.
    drop(descriptor::adopt_number(connection));
    Ok(())
}

/// Closes a listener of `listen`.
pub fn close(listener: &Listener) -> Result<()> {
    match worker()? {
        Some(worker) => worker.close(listener),
        None => listener.finish(),
    }
    Ok(())
}

impl Listener {
    /// Sets a socket option of the listening address, with every mechanism: on all its sockets, including those of later workers, for
    /// connections that come from now on. A worker waits for the primary, which judges it like the options of a listen
    /// (docs/socket-options.md). On a socket that this process opened itself only the kernel does. After an error nothing has changed.
    pub fn set_option(&self, option: &SocketOption) -> Result<()> {
        match worker()? {
            Some(worker) => worker.set_option(self, option),
            None => self.set_option_alone(option),
        }
    }

    /// Has an epoll of the program's tell `data` whenever accept has something to say, also where that takes turns with other workers.
    /// The epoll is not to be nested in another one. Ends with [`unwatch_in`](Self::unwatch_in), or when the listener is closed.
    pub fn watch_in(&self, epoll: RawFd, data: u64) -> Result<()> {
        let watch = |epoll: BorrowedFd| match worker()? {
            Some(worker) => worker.watch(self, epoll, data),
            None => self.watch(epoll, data),
        };
        let none = || Error::new(-libc::EBADF, format!("{epoll} is no descriptor"));
        descriptor::with_number(epoll, watch).ok_or_else(none)?
    }

    /// Hands back an idle connection that was accepted from this listener, in a worker that was asked to leave; see
    /// [`Worker::hand_back`].
    pub fn hand_back(&self, connection: BorrowedFd) -> Result<()> {
        match worker()? {
            Some(worker) => worker.hand_back(self, connection),
            None => self.keep(connection),
        }
    }

    /// It does not any more; -ENOENT if it did not.
    pub fn unwatch_in(&self) -> Result<()> {
        let was_watched = match worker()? {
            Some(worker) => worker.unwatch(self)?,
            None => self.unwatch(),
        };
        if was_watched { Ok(()) } else { Err(Error::new(-libc::ENOENT, "the listener is not watched")) }
    }
}

/// Locks the place of this process's primary. An error in a worker.
fn lock_primary(process: &Process) -> Result<MutexGuard<'_, Option<Primary>>> {
    if place(process).is_worker() {
        return Err(Error::wrong_role("this process is a worker; only a primary can do that"));
    }
    Ok(lock(&process.primary))
}

/// The primary in that place, made on first use.
fn primary_in<'a>(kept: &'a mut Option<Primary>, process: &Process) -> Result<&'a mut Primary> {
    match kept {
        Some(primary) => Ok(primary),
        none => {
            let mut primary = Primary::new(Settings::default())?;
            if let Some(error) = place(process).stray().or_else(worker::stray_channel) {
                primary.start_no_workers(error);
            }
            STOP.set(Some(primary.stop_request()));
            Ok(none.insert(primary))
        }
    }
}

/// Calls `use_it` with this process's primary, which is made on first use. Must not be nested.
pub fn with_primary<T>(use_it: impl FnOnce(&mut Primary) -> Result<T>) -> Result<T> {
    let process = process()?;
    let mut kept = lock_primary(process)?;
    let primary = primary_in(&mut kept, process)?;
    point();
    use_it(primary)
}

/// Changes the primary's settings. Looks up the names in the listen rules, which may wait for a name server; the primary serves
/// meanwhile.
pub fn configure(change: impl FnOnce(&mut Settings) -> Result<()>) -> Result<()> {
    let _alone = lock(&process()?.configuring);
    let before = with_primary(|primary| Ok(primary.settings().clone()))?;
    let mut settings = before.clone();
    change(&mut settings)?;
    settings.check()?;
    let permits = Permits::changed(&before, &settings)?;
    with_primary(|primary| primary.configure_with(settings, permits))
}

/// Starts a program as a worker and returns its id. Looks up users and groups, which may wait for a directory service; the primary
/// serves meanwhile.
pub fn spawn(options: &SpawnOptions) -> Result<u32> {
    with_primary(|primary| primary.check_may_start())?;
    let plan = Plan::new(options)?;
    with_primary(|primary| primary.spawn_planned(plan))
}

/// Begins to replace every worker, so that nobody who connects notices, and returns at once. [`Event::Reload`](crate::Event::Reload)
/// tells each phase; [`Reloading::wait`] waits for the outcome, and must not be called by the thread that runs the primary. Looks up
/// users and groups, which may wait for a directory service; the primary serves meanwhile.
///
/// ```no_run
/// use cluster_core::{Outcome, ReloadOptions, process};
///
/// fn deploy() -> cluster_core::Result<bool> {
///     let mut options = ReloadOptions::default();
///     options.parallel = 2;
///     let reloaded = process::reload(&options)?.wait(None);
///     Ok(reloaded.is_some_and(|reloaded| reloaded.outcome == Outcome::Done))
/// }
/// ```
pub fn reload(options: &ReloadOptions) -> Result<Reloading> {
    with_primary(|primary| primary.check_may_start())?;
    let program = options.program.as_ref().map(Plan::new).transpose()?;
    with_primary(|primary| primary.reload_planned(options, program))
}

/// The primary's descriptor, for the program's own loop: readable when `step` has something to do.
pub fn poll_fd() -> Result<RawFd> {
    with_primary(|primary| Ok(primary.poller().as_fd().as_raw_fd()))
}

/// Asks the primary to stop. `None`: with the deadline of the settings. Async-signal-safe, so its error is a bare code.
pub fn stop(deadline: Option<Duration>) -> std::result::Result<(), i32> {
    point();
    if let Some(process) = PROCESS.get() {
        if process.guard.is_forked() {
            return Err(-libc::ECHILD);
        }
        // Locked for writing only while a worker is being made, with the stop signals blocked.
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
    /// In the worker that this call made.
    Worker,
}

/// Makes a worker by fork(2).
pub fn fork() -> Result<Side<u32>> {
    fork_by(process()?, Primary::fork)
}

fn fork_by(process: &Process, fork: impl FnOnce(&mut Primary) -> Result<Forked>) -> Result<Side<u32>> {
    let mut kept = lock_primary(process)?;
    let primary = primary_in(&mut kept, process)?;
    let mut blocked = StopSignalsBlocked::new().context("pthread_sigmask")?;
    let holds = process.serving.load(Ordering::SeqCst) || primary.settings().worker_signals;
    match fork(primary)? {
        Forked::Primary(id) => Ok(Side::Primary(id)),
        Forked::Worker { id, slot, channel } => {
            // Closes everything the primary had open, and changes nothing that is shared with it.
            *kept = None;
            drop(kept);
            become_worker(process, Identity { id, slot }, channel, holds, &mut blocked);
            Ok(Side::Worker)
        }
    }
}

fn become_worker(
    process: &Process,
    identity: Identity,
    channel: OwnedFd,
    holds: bool,
    blocked: &mut StopSignalsBlocked,
) {
    process.guard.renew();
    crate::env::mark_worker();
    STOP.set(None);
    // Signals that were blocked before the primary handled them stay blocked in its worker, whoever forks it.
    if let Some(signals) = lock(&process.signals).take() {
        blocked.keep(signals.blocked_before());
    }
    drop(lock(&process.reload_signals).take());
    process.serving.store(false, Ordering::SeqCst);
    process.stepping.store(false, Ordering::SeqCst);
    let joined = Worker::adopt(channel);
    // Only where it is wanted, since it installs handlers.
    if let (true, Ok(worker)) = (holds, &joined)
        && let Ok(held) = worker.hold_signals()
    {
        blocked.release(&held);
    }
    *process.place.write().unwrap_or_else(PoisonError::into_inner) = Place::joined(identity, joined);
}
