//! The primary: a state machine without a thread of its own. It waits on one descriptor and does what is due in
//! `dispatch`, so that a program can run it, embed it in a loop of its own, or drive it from a thread.

mod allowance;
#[cfg(any(test, feature = "fuzzing"))]
mod check;
mod clock;
mod closing;
mod comeback;
mod enrolled;
mod environment;
mod event;
mod frames;
mod handles;
mod inheritance;
mod ladder;
mod leave;
mod news;
mod permits;
mod poller;
mod postponed;
mod refused;
mod registry;
mod socket_options;
mod spawn;
mod unattended;
mod units;

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use enrolled::{Enrolled, Granted, Relayed, Wanted};
pub use event::{Event, WorkerRef};
pub use poller::{Poller, Ready, StopRequest};
pub use registry::WorkerState;
pub use spawn::SpawnOptions;

use crate::channel::Channel;
use crate::env;
use crate::error::{Context, Error, Result};
use crate::handle::{Choice, HandleStats, LOOK, Look, MechanismKind, PART_OF_RUNNING, Pumped};
use crate::policy::Policy;
use crate::restart::Restarts;
use crate::settings::{Mechanism, Settings};
use crate::sys::fork_guard::ForkGuard;
use crate::sys::poll::Interest;
use crate::sys::process;
use crate::sys::sockaddr::SockAddr;
use crate::token::Token;
use crate::wire;
use allowance::Allowance;
use clock::{Clock, Timer};
use handles::Handles;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use handles::key;
use news::News;
pub use permits::Permits;
use postponed::Postponed;
use registry::{Entry, Recipe, Registry};
pub(crate) use spawn::Plan;
use spawn::Seat;
use unattended::Kept;

/// How often a worker without a pidfd is asked whether it has ended.
const ASK_AGAIN: Duration = Duration::from_millis(20);
/// How soon after epoll_ctl(2) failed everything is told to it again.
const WATCH_AGAIN: Duration = Duration::from_millis(20);
/// How soon a socket that was short of something is tried again.
const FLUSH_AGAIN: Duration = Duration::from_millis(5);

/// What [`Primary::fork`] returns, once in each process.
pub enum Forked {
    /// In the primary: the worker's id.
    Primary(u32),
    /// In the worker. The `Primary` of this process is only a copy; drop it.
    Worker {
        /// The worker's id.
        id: u32,
        /// Its slot.
        slot: u32,
        /// Its end of the channel.
        channel: OwnedFd,
    },
}

/// What is known of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkerInfo {
    /// Who.
    pub worker: WorkerRef,
    /// How far it has come.
    pub state: WorkerState,
    /// Connections passed to it and not taken back, and those that it says it has accepted itself (`shared`, `kernel`).
    pub delivered: u64,
    /// Connections that wait for it.
    pub waiting: u32,
    /// The load it told last.
    pub load: u32,
    /// Another value whenever it has looked for connections, or its event loop has turned; `None` if it does not tell.
    pub progress: Option<u64>,
}

/// What is known of an address.
#[derive(Debug, Clone)]
pub struct HandleInfo {
    /// The address as it was asked for.
    pub address: String,
    /// The bound address.
    pub name: SockAddr,
    /// How its connections reach the workers.
    pub mechanism: MechanismKind,
    /// Who gets the next one.
    pub policy: Policy,
    /// Its counters.
    pub stats: HandleStats,
    /// Connections that were accepted and had to be dropped, because the address was given up; counted over all the
    /// times it was open.
    pub lost: u64,
}

/// A turn in which a defect of ours made a panic leaves events that were taken and not heeded. There is another at once.
struct Unfinished<'a>(&'a Poller);

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.wake.wake();
        }
    }
}

impl Drop for Primary {
    fn drop(&mut self) {
        // The copy that a forked worker drops is not its to close.
        if !self.guard.is_forked() {
            self.registry.take_channels().for_each(Channel::close);
        }
    }
}

/// The process that owns the listening sockets.
pub struct Primary {
    guard: ForkGuard,
    poller: Arc<Poller>,
    stop: Arc<StopRequest>,
    settings: Settings,
    /// What the environment wants where the settings leave the mechanism open.
    mechanism: Mechanism,
    /// Respawn when the settings leave it open.
    respawn_by_default: bool,
    /// Nobody starts a worker any more but us.
    ends_when_idle: bool,
    /// This process's own, for the workers; `None` where there are no pidfds.
    own_pidfd: Option<OwnedFd>,
    registry: Registry,
    handles: Handles,
    /// What `settings.listen_allow` says; `None` as there.
    permits: Option<Permits>,
    clock: Clock,
    news: News,
    kept: Kept,
    postponed: Postponed,
    /// Slots that wait for their replacement.
    restarts: Restarts,
    /// Some worker has had a share of an address.
    ever_listened: bool,
    /// Workers of the program that have ended and had taken a connection, until it says that they have.
    served: BTreeSet<u32>,
    /// Workers are enrolled; whether one is replaced, only the program knows.
    program_replaces: bool,
    /// Everybody is leaving, and nobody is replaced.
    stopping: bool,
    /// Why this process may start no workers.
    forbidden: Option<Error>,
    /// A stop was asked for and goes on serving: its deadline.
    draining: Option<Duration>,
    /// Workers that are to leave when those who wait for them are served, or at this time.
    farewells: BTreeMap<u32, Instant>,
    /// Workers that a signal has asked to leave.
    signalled: BTreeSet<u32>,
    due_forks: Vec<u32>,
    buffer: Vec<u8>,
    /// Empty between turns; kept for its memory.
    marked: Vec<u32>,
}

impl Primary {
    /// A primary without workers.
    pub fn new(settings: Settings) -> Result<Self> {
        settings.check()?;
        let permits = settings.listen_allow.as_deref().map(Permits::new).transpose()?;
        let mechanism = env::mechanism()?;
        let poller = Arc::new(Poller::new()?);
        let stop = StopRequest::new(Arc::clone(&poller.wake));
        Ok(Self {
            guard: ForkGuard::new().ok_or_else(|| Error::new(-libc::ENOMEM, "no memory for a page"))?,
            stop: Arc::new(stop),
            settings,
            mechanism,
            respawn_by_default: false,
            ends_when_idle: false,
            own_pidfd: process::pidfd(process::own_pid()).ok(),
            registry: Registry::default(),
            handles: Handles::default(),
            permits,
            clock: Clock::new(Arc::clone(&poller)),
            news: News::default(),
            poller,
            kept: Kept::default(),
            postponed: Postponed::default(),
            restarts: Restarts::default(),
            ever_listened: false,
            served: BTreeSet::new(),
            program_replaces: false,
            stopping: false,
            forbidden: None,
            draining: None,
            farewells: BTreeMap::new(),
            signalled: BTreeSet::new(),
            due_forks: Vec::new(),
            buffer: Vec::new(),
            marked: Vec::new(),
        })
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
        let permits = self.permits_for(settings.listen_allow.as_deref())?;
        self.configure_with(settings, permits)
    }

    /// The same with what the rules mean, where they are others than before: made ahead, so that nobody waits for this primary while
    /// names are looked up.
    pub fn configure_with(&mut self, settings: Settings, permits: Option<Option<Permits>>) -> Result<()> {
        if settings.mechanism == Mechanism::Kernel {
            self.handles.ladder.prepare(Choice::of(settings.policy))?;
        } else {
            self.handles.ladder.rest();
        }
        if let Some(permits) = permits {
            self.permits = permits;
        }
        self.settings = settings;
        Ok(())
    }

    /// The program's choice, or else the environment's.
    fn mechanism_in_force(&self) -> Mechanism {
        match self.settings.mechanism {
            Mechanism::Auto => self.mechanism,
            chosen => chosen,
        }
    }

    /// What `Respawn::Default` means: replace every worker (as `serve` does) or none.
    pub fn respawn_by_default(&mut self, always: bool) {
        self.respawn_by_default = always;
    }

    /// The program leaves it at the workers that there are: the last that leaves gives its addresses up.
    pub fn end_when_idle(&mut self, ends: bool) {
        self.ends_when_idle = ends;
    }

    /// Makes a worker by fork(2). The caller must be the process's only thread; ETHREADS otherwise.
    pub fn fork(&mut self) -> Result<Forked> {
        self.check_may_start()?;
        let slot = self.registry.free_slot();
        self.fork_into(slot)
    }

    /// Starts a program as a worker and returns the worker's id. Any thread may call it.
    pub fn spawn(&mut self, options: &SpawnOptions) -> Result<u32> {
        self.check_may_start()?;
        self.spawn_planned(Plan::new(options)?)
    }

    /// The same where the options are ready.
    pub(crate) fn spawn_planned(&mut self, plan: Plan) -> Result<u32> {
        self.check_may_start()?;
        let slot = self.registry.free_slot();
        self.spawn_into(slot, Arc::new(plan))
    }

    /// From now on no worker can be started, for this reason.
    pub(crate) fn start_no_workers(&mut self, reason: Error) {
        self.forbidden = Some(reason);
    }

    pub(crate) fn check_may_start(&self) -> Result<()> {
        self.check_own()?;
        if let Some(reason) = &self.forbidden {
            return Err(reason.clone());
        }
        if self.stopping {
            return Err(Error::new(-libc::ESHUTDOWN, "the cluster is being stopped; no worker can be started"));
        }
        Ok(())
    }

    fn check_own(&self) -> Result<()> {
        if self.guard.is_forked() { Err(Error::forked()) } else { Ok(()) }
    }

    /// Slots whose worker was made by fork and is due to be replaced: the program forks, as only it can.
    pub fn take_due_fork(&mut self) -> Option<u32> {
        while let Some(slot) = self.due_forks.pop() {
            if !self.stopping && self.registry.replacement(slot).is_some() {
                return Some(slot);
            }
        }
        None
    }

    /// Replaces the worker of a slot that `take_due_fork` gave.
    pub fn fork_into(&mut self, slot: u32) -> Result<Forked> {
        self.check_own()?;
        let threads = "counting this process's threads, which takes /proc or unshare(2)";
        if process::has_other_threads().context(threads)? {
            return Err(Error::new(
                crate::error::ETHREADS,
                "cl_fork needs a process with one thread: the others would not exist in the worker and what they \
                 hold would stay locked; start workers before threads, or use cl_spawn",
            ));
        }
        let id = self.registry.next_id();
        let (seat, worker_end) = Seat::new(id, slot)?;
        match process::fork().context("fork")? {
            // It waits for its hello, which comes when it is in the books: until then it cannot end unnoticed.
            None => Ok(Forked::Worker { id, slot, channel: worker_end }),
            Some(child) => {
                // ESRCH: it has been killed already, which its pidfd will tell.
                let _ = process::own_lifeline(seat.lifeline_reader.as_fd(), child.pid());
                seat.greet(self.own_pidfd.as_ref()).inspect_err(|_| child.abandon())?;
                self.enter(id, slot, child, seat, Recipe::Fork)?;
                Ok(Forked::Primary(id))
            }
        }
    }

    fn spawn_into(&mut self, slot: u32, plan: Arc<Plan>) -> Result<u32> {
        let id = self.registry.next_id();
        let (seat, worker_end) = Seat::new(id, slot)?;
        seat.greet(self.own_pidfd.as_ref())?;
        let child = plan.start(id, slot, &seat, worker_end, self.settings.worker_signals)?;
        if !self.may_be_replaced() {
            plan.let_go();
        }
        self.enter(id, slot, child, seat, Recipe::Program(plan))?;
        Ok(id)
    }

    /// Takes a process that was just made into the books.
    fn enter(&mut self, id: u32, slot: u32, child: process::Child, seat: Seat, recipe: Recipe) -> Result<()> {
        let poll = &self.poller.poll;
        let watched = child
            .pidfd()
            .map_or(Ok(()), |pidfd| poll.add(pidfd, Token::Process(id).pack(), Interest::Readable))
            .and_then(|()| poll.add(&seat.channel, Token::Channel(id).pack(), Interest::Readable))
            .and_then(|()| poll.add(&seat.grants, Token::Grants(id).pack(), Interest::None));
        if let Err(errno) = watched {
            child.abandon();
            return Err(Error::os("watching a new worker", errno));
        }
        if child.pidfd().is_none() && !matches!(recipe, Recipe::Enrolled) {
            self.clock.add(Instant::now() + ASK_AGAIN, Timer::Ask(id));
        }
        let confined = matches!(&recipe, Recipe::Program(plan) if plan.confined());
        let now = Instant::now();
        let entry = Entry {
            id,
            slot,
            process: child,
            channel: Some(seat.channel),
            grants: seat.grants,
            _lifeline: seat.lifeline_writer,
            nonce: seat.hello.nonce,
            greeted: false,
            sets_options: false,
            allowance: Allowance::new(now),
            resting: false,
            state: WorkerState::Starting,
            started: now,
            ended: false,
            listeners: Default::default(),
            relayed: Default::default(),
            delivered_before: 0,
            listened: false,
            took_uncounted: false,
            refused: None,
            board: seat.board,
            escalation: None,
            confined,
            refusals: Default::default(),
        };
        self.news.push(Event::Fork(entry.reference()));
        self.registry.insert(entry, recipe);
        self.clock.wake();
        Ok(())
    }

    /// Waits and does what is due; returns what happened. For programs that need nothing else in between.
    pub fn turn(&mut self, timeout: Option<Duration>) -> Result<Vec<Event>> {
        self.check_own()?;
        let ready =
            if self.news.is_empty() { self.poller.wait(timeout)? } else { self.poller.wait(Some(Duration::ZERO))? };
        self.dispatch(&ready);
        Ok(self.take_events())
    }

    /// What has happened since the last call.
    pub fn take_events(&mut self) -> Vec<Event> {
        self.news.take()
    }

    /// Does what is due. Never waits. `take_events` and `take_due_fork` have what came of it.
    pub fn dispatch(&mut self, ready: &Ready) {
        if self.guard.is_forked() {
            return;
        }
        let poller = self.poller();
        let _unfinished = Unfinished(&poller);
        if !self.clock.begin_turn() {
            self.handles.mark_all();
        }
        for token in ready.0.tokens().filter_map(Token::unpack) {
            match token {
                Token::Wake => self.poller.wake.clear(),
                Token::Alarm => self.clock.clear_alarm(),
                Token::Channel(worker) => self.channel_ready(worker),
                Token::Grants(worker) => self.flush(worker),
                Token::Process(worker) => self.process_ended(worker),
                Token::Listening(id) => {
                    if let Some(handle) = self.handles.get_mut(id) {
                        handle.announced();
                        self.handles.mark(id);
                    }
                }
                Token::Queue(listener) => {
                    if let Some(handle) = self.handles.of_listener(listener) {
                        handle.queue_announced(listener);
                        let id = handle.id;
                        self.handles.mark(id);
                    }
                }
                Token::Mailbox(listener) => {
                    if let Some(handle) = self.handles.of_listener(listener) {
                        handle.mailbox_changed(listener, &self.poller.poll);
                        let id = handle.id;
                        self.handles.mark(id);
                    }
                }
            }
        }
        if let Some(deadline) = self.stop.take() {
            self.ask_to_stop(deadline.unwrap_or(self.settings.stop_deadline));
        }
        let now = Instant::now();
        self.run_timers(now);
        self.run_restarts(now);
        self.pump(now);
        if self.poller.poll.take_failed() {
            self.clock.add(now + WATCH_AGAIN, Timer::Repair);
        }
        if self.handles.has_marked() {
            // No event tells that these have more to move.
            self.clock.wake();
        }
        self.clock.end_turn();
    }

    fn pump(&mut self, now: Instant) {
        let mut marked = std::mem::take(&mut self.marked);
        self.handles.take_marked(&mut marked);
        for id in marked.drain(..) {
            match self.handles.pump(id, &self.poller.poll, now) {
                Some(Pumped::Again) => self.handles.mark(id),
                Some(Pumped::At(at)) => self.clock.add(at, Timer::Pump(id)),
                Some(Pumped::Done) | None => {}
            }
            if let Some(at) = self.handles.get_mut(id).and_then(|handle| handle.take_alarm(now)) {
                self.clock.add(at, Timer::Pump(id));
            }
            if self.handles.get(id).is_some_and(|handle| handle.wants_audit()) {
                self.clock.audit_soon(now);
            }
            if self.handles.get(id).is_some_and(|handle| handle.has_waiting()) {
                self.clock.watch(now);
            }
        }
        self.marked = marked;
    }

    fn run_timers(&mut self, now: Instant) {
        while let Some((at, timer)) = self.clock.due(now) {
            match timer {
                Timer::Watch => {
                    let interval = self.clock.take_watch();
                    let look = Look {
                        poll: &self.poller.poll,
                        interval,
                        elapsed: interval + now.saturating_duration_since(at),
                        in_time: now.saturating_duration_since(at) < LOOK / 2,
                        patience: self.settings.patience,
                        part_of_running: PART_OF_RUNNING,
                        slack: self.settings.slack,
                        workers: &self.registry,
                    };
                    if let Some(again) = self.handles.watch(&look) {
                        self.clock.watch_in(again, now);
                    }
                }
                Timer::Audit => self.audit(now),
                Timer::Pump(handle) => self.handles.mark(handle),
                // Every turn looks whose turn it is.
                Timer::Restart => {}
                Timer::Escalate(worker) => self.escalate(worker, now),
                Timer::Ask(worker) => {
                    self.process_ended(worker);
                    if self.registry.get(worker).is_some() {
                        self.clock.add(now + ASK_AGAIN, Timer::Ask(worker));
                    }
                }
                Timer::Flush(worker) => self.flush(worker),
                Timer::Read(worker) => self.read_again(worker),
                Timer::Repair => self.watch_again(),
                Timer::Signalled(worker) => self.leave_by_signal(worker),
                Timer::Listen => self.listen_again(now),
                Timer::Closing => self.look_at_closing(now),
                Timer::Drained => self.drained(),
                Timer::Unattended(handle) => self.leave_unattended(handle),
            }
        }
    }

    fn audit(&mut self, now: Instant) {
        let found: Vec<_> = self.handles.audit(&self.poller.poll, now);
        if !found.is_empty() {
            self.clock.audit_soon(now);
        }
        for (handle, audited) in found {
            for worker in audited.thieves {
                self.end(worker, "it took its socket out of the group, and with it the others' connections,");
            }
            for worker in audited.risen {
                if self.registry.get(worker).is_some() {
                    self.end(worker, "it made a socket receive again that is not its any more");
                } else if audited.tell {
                    let whose = format!(
                        "a process that worker {worker} left behind has made its socket of {handle} receive again"
                    );
                    self.news.warn(None, format!("{whose}; it does not any more"));
                }
            }
            if let Some(what) = audited.spoiled {
                let text =
                    format!("a worker has {what} the socket of {handle} that all workers share; it was made as it was");
                self.news.warn(None, text);
            }
        }
    }

    /// True when no worker runs and none is due.
    pub fn is_idle(&self) -> bool {
        self.registry.is_empty() && !self.registry.is_replacing() && self.news.is_empty()
    }

    /// Gives up every address without a worker, and makes a stopped primary usable again.
    pub fn finish(&mut self) {
        self.handles.close_unattended(&self.poller.poll);
        self.handles.ladder.rest();
        self.stopping = false;
        self.ever_listened = false;
        self.draining = None;
        self.stop.take();
        self.due_forks.clear();
    }

    /// The running workers' ids, in order.
    pub fn worker_ids(&self) -> Vec<u32> {
        self.registry.ids()
    }

    /// What is known of a worker; ESRCH when there is none of that id.
    pub fn worker_info(&self, id: u32) -> Result<WorkerInfo> {
        let entry = self.registry.get(id).ok_or_else(|| no_such_worker(id))?;
        let known = entry.delivered_before + self.handles.iter().map(|handle| handle.delivered_to(id)).sum::<u64>();
        Ok(WorkerInfo {
            worker: entry.reference(),
            state: entry.state,
            delivered: known.max(entry.board.taken()),
            waiting: self.handles.iter().map(|handle| handle.waiting_for(id)).sum(),
            load: entry.board.load().load,
            progress: entry.board.progress(),
        })
    }

    /// What is known of each address.
    pub fn handles(&self) -> Vec<HandleInfo> {
        let info = |handle: &crate::handle::Handle| HandleInfo {
            address: handle.address.clone(),
            name: handle.name,
            mechanism: handle.mechanism(),
            policy: if handle.mechanism() == MechanismKind::Shared { Policy::None } else { handle.policy() },
            stats: handle.stats(),
            lost: self.handles.lost(&handle.key),
        };
        self.handles.iter().map(info).collect()
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
        if self.registry.get(id).is_none() {
            return Err(no_such_worker(id));
        }
        self.send_frame(id, &wire::MESSAGE_HEADER, data)
    }

    /// Sends a signal to a worker's process.
    pub fn kill(&self, id: u32, signal: i32) -> Result<()> {
        self.check_own()?;
        let entry = self.registry.get(id).ok_or_else(|| no_such_worker(id))?;
        entry.process.signal(signal).context(format_args!("sending signal {signal} to worker {id}"))
    }
}

fn no_such_worker(id: u32) -> Error {
    Error::new(-libc::ESRCH, format!("there is no worker {id} (any more)"))
}
