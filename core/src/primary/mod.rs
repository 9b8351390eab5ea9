//! The primary: a state machine without a thread of its own. It waits on one descriptor and does what is due in
//! `dispatch`, so that a program can run it, embed it in a loop of its own, or drive it from a thread.
//!
//! [`Primary`] is a loop (`turn`, `leaving`) over four types:
//!
//! - [`Workers`] has the processes and their slots: registry, links, who is to be replaced, who is to leave, who was asked to.
//! - [`Addresses`] has what is open: handles by id and key, listeners, permits, mechanisms made ready, listens that wait for a lock,
//!   addresses that are kept for a successor or are being closed, and what was lost.
//! - [`Clock`] has the timers and the alarm, and wakes whoever runs the primary.
//! - [`News`] has what the program is told, and how often.
//!
//! Talking, listening and living return outcomes (`Heard` and `Said`; `Permit` and `Place`; `Entry` and exit statuses), and only the
//! loop knows all three. What concerns one worker is done in a [`Session`](session::Session), which looks that worker up once and says
//! in `Next` what takes more than it. A room uses what stands below it, and nothing above:
//!
//! ```text
//! mod  enrolled  snapshot        the public face
//! turn  leaving                  the loop
//! session                        one worker in hand
//! listen/                        ask, permit, open, join, grant; leave, close
//! workers/                       start, replace, leave, die
//! talk/                          from bytes to what was said, and back
//! ground                         clock, news, poll and settings
//! ```

#[cfg(any(test, feature = "fuzzing"))]
mod check;
mod clock;
mod enrolled;
mod event;
mod ground;
mod leaving;
mod listen;
mod news;
mod poller;
mod refused;
mod reloading;
mod renewing;
mod returning;
mod session;
mod snapshot;
mod talk;
mod turn;
mod workers;

use std::sync::Arc;
use std::time::Duration;

pub use event::{Event, WorkerRef};
pub use listen::Permits;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use listen::key;
pub use poller::{Poller, Ready, StopRequest};
pub use reloading::{Reloaded, Reloading};
pub use snapshot::{HandleInfo, Usage, WorkerInfo};
pub(crate) use workers::Plan;
pub use workers::{Due, Enrolled, Forked, Granted, Relayed, ReloadOptions, SpawnOptions, Wanted, WorkerState};

use crate::env;
use crate::error::{Error, Result};
use crate::settings::{Mechanism, Settings};
use crate::sys::fork_guard::ForkGuard;
use crate::wire;
use clock::Clock;
use ground::Ground;
use listen::Addresses;
use news::News;
use reloading::Reloadings;
use talk::Reader;
use workers::Workers;

/// The process that owns the listening sockets.
pub struct Primary {
    guard: ForkGuard,
    poller: Arc<Poller>,
    stop: Arc<StopRequest>,
    settings: Settings,
    /// What the environment wants where the settings leave the mechanism open.
    mechanism: Mechanism,
    workers: Workers,
    addresses: Addresses,
    clock: Clock,
    news: News,
    reader: Reader,
    reloadings: Reloadings,
    /// Empty between turns; kept for its memory.
    marked: Vec<u32>,
}

impl Drop for Primary {
    fn drop(&mut self) {
        // The copy that a forked worker drops is not its to close.
        if !self.guard.is_forked() {
            for entry in self.workers.iter_mut() {
                entry.link.close(&self.poller.poll);
            }
        }
    }
}

impl Primary {
    /// A primary without workers.
    pub fn new(settings: Settings) -> Result<Self> {
        settings.check()?;
        let permits = Permits::of(&settings)?;
        let mechanism = env::mechanism()?;
        let poller = Arc::new(Poller::new()?);
        let stop = StopRequest::new(Arc::clone(&poller.wake));
        Ok(Self {
            guard: ForkGuard::new().ok_or_else(|| Error::new(-libc::ENOMEM, "no memory for a page"))?,
            stop: Arc::new(stop),
            settings,
            mechanism,
            workers: Workers::new(),
            addresses: Addresses::new(permits),
            clock: Clock::new(Arc::clone(&poller)),
            news: News::default(),
            poller,
            reader: Reader::default(),
            reloadings: Reloadings::default(),
            marked: Vec::new(),
        })
    }

    fn parts(&mut self) -> (&mut Workers, &mut Addresses, &mut Reader, Ground<'_>) {
        let Self { workers, addresses, reader, clock, news, settings, poller, .. } = self;
        (workers, addresses, reader, Ground { poll: &poller.poll, settings, clock, news })
    }

    /// The descriptors to wait on, without borrowing the primary.
    pub fn poller(&self) -> Arc<Poller> {
        Arc::clone(&self.poller)
    }

    /// The way to stop it from a signal handler or another thread.
    pub fn stop_request(&self) -> Arc<StopRequest> {
        Arc::clone(&self.stop)
    }

    /// The settings in force.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Changes the settings, for what is started and opened from now on. If they want the mechanism `kernel`, what it needs a
    /// privilege for is made here for the first addresses, so that the program may give its privileges up afterwards.
    pub fn configure(&mut self, settings: Settings) -> Result<()> {
        settings.check()?;
        let permits = Permits::changed(&self.settings, &settings)?;
        self.configure_with(settings, permits)
    }

    /// The same with what the rules mean, where they are others than before: made ahead, so that nobody waits for this primary while
    /// names are looked up.
    pub fn configure_with(&mut self, settings: Settings, permits: Option<Option<Permits>>) -> Result<()> {
        self.addresses.configure(&settings, permits)?;
        self.settings = settings;
        Ok(())
    }

    /// What `Respawn::Default` means: replace every worker (as `serve` does) or none.
    pub fn respawn_by_default(&mut self, always: bool) {
        self.workers.respawn_by_default(always);
    }

    /// The program leaves it at the workers that there are: the last that leaves gives its addresses up.
    pub fn end_when_idle(&mut self, ends: bool) {
        self.workers.end_when_idle(ends);
    }

    /// Makes a worker by fork(2). The caller must be the process's only thread; ETHREADS otherwise.
    pub fn fork(&mut self) -> Result<Forked> {
        self.check_may_start()?;
        let (workers, _, _, mut ground) = self.parts();
        workers.fork(&mut ground)
    }

    /// Starts a program as a worker and returns the worker's id. Any thread may call it.
    pub fn spawn(&mut self, options: &SpawnOptions) -> Result<u32> {
        self.check_may_start()?;
        self.spawn_planned(Plan::new(options)?)
    }

    /// The same where the options are ready.
    pub(crate) fn spawn_planned(&mut self, plan: Plan) -> Result<u32> {
        self.check_may_start()?;
        let (workers, _, _, mut ground) = self.parts();
        workers.spawn(plan, &mut ground)
    }

    /// From now on no worker can be started, for this reason.
    pub(crate) fn start_no_workers(&mut self, reason: Error) {
        self.workers.forbid(reason);
    }

    pub(crate) fn check_may_start(&self) -> Result<()> {
        self.check_own()?;
        self.workers.check_may_start()
    }

    fn check_own(&self) -> Result<()> {
        if self.guard.is_forked() { Err(Error::forked()) } else { Ok(()) }
    }

    /// A worker that is to be made by fork: the program does it, as only it can.
    pub fn take_due_fork(&mut self) -> Option<Due> {
        self.workers.take_due_fork()
    }

    /// Makes a worker that `take_due_fork` gave.
    pub fn fork_due(&mut self, due: Due) -> Result<Forked> {
        self.check_own()?;
        let (workers, _, _, mut ground) = self.parts();
        workers.fork_due(due, &mut ground)
    }

    /// What was due could not be made: that is said, and tried again later where it is to replace one that is gone.
    pub fn due_failed(&mut self, due: Due, error: &Error) {
        let (workers, _, _, mut ground) = self.parts();
        workers.due_failed(due, error, &mut ground);
    }

    /// What has happened since the last call.
    pub fn take_events(&mut self) -> Vec<Event> {
        self.news.take()
    }

    /// True when no worker runs and none is due.
    pub fn is_idle(&self) -> bool {
        self.workers.are_idle() && self.news.is_empty()
    }

    /// Asks a worker to leave: it gets no more connections, drains, and exits within the settings' deadline.
    pub fn disconnect(&mut self, id: u32) -> Result<()> {
        self.check_own()?;
        self.workers.named(id)?;
        self.ask_to_leave(id, Some(self.settings.stop_deadline));
        Ok(())
    }

    /// Asks every worker to leave.
    pub fn disconnect_all(&mut self) -> Result<()> {
        self.check_own()?;
        for id in self.workers.ids() {
            self.ask_to_leave(id, Some(self.settings.stop_deadline));
        }
        Ok(())
    }

    /// Stops the cluster: it goes on serving for the settings' delay, then everybody leaves, nobody is replaced, every address is
    /// given up. A second call with a shorter deadline ends the delay, or shortens the deadline.
    pub fn stop(&mut self, deadline: Duration) {
        self.ask_to_stop(deadline);
    }

    /// Stops the cluster if there is no hope that anything ever listens, and says why. Once something has, there always is.
    pub(crate) fn give_up(&mut self) -> Option<Error> {
        if self.addresses.ever_joined() {
            return None;
        }
        let why = self.workers.hopeless()?;
        self.stop(Duration::ZERO);
        Some(why)
    }

    /// Gives up every address without a worker, and makes a stopped primary usable again.
    pub fn finish(&mut self) {
        self.addresses.finish(&self.poller.poll);
        self.workers.finish();
        self.stop.take();
    }

    /// The running workers' ids, in order.
    pub fn worker_ids(&self) -> Vec<u32> {
        self.workers.ids()
    }

    /// What is known of a worker; ESRCH when there is none of that id.
    pub fn worker_info(&self, id: u32) -> Result<WorkerInfo> {
        Ok(snapshot::of_worker(self.workers.named(id)?, &self.addresses))
    }

    /// What is known of each address.
    pub fn handles(&self) -> Vec<HandleInfo> {
        snapshot::of_addresses(&self.addresses)
    }

    /// Sends a worker a message. EAGAIN when too much waits for it already, EPIPE when its channel is closed.
    pub fn send(&mut self, id: u32, data: &[u8]) -> Result<()> {
        self.check_own()?;
        if data.len() > wire::MESSAGE_MAX {
            return Err(Error::new(
                -libc::EMSGSIZE,
                format!("the message has {} bytes; at most {} fit", data.len(), wire::MESSAGE_MAX),
            ));
        }
        let mut session = self.session(id).ok_or_else(|| workers::no_such_worker(id))?;
        session.worker.link.send_message(data, &mut session.ground)
    }

    /// Sends a signal to a worker's process.
    pub fn kill(&self, id: u32, signal: i32) -> Result<()> {
        self.check_own()?;
        self.workers.kill(id, signal)
    }
}
