//! The primary's side: the engine, on a thread of its own, and what JavaScript asks of it.

use std::os::fd::IntoRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use cluster_core::{
    Event, Granted, ListenFlags, Mechanism, MechanismKind, Policy, Poller, Primary, Settings, Wanted, WorkerState,
};
use napi::bindgen_prelude::Function;
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use napi::{Result, Status};
use napi_derive::napi;

use crate::listener::{Listener, SockName};
use crate::refusal;

/// A flag of JavaScript's own beside those of `ListenFlags`.
const PAD_ABSTRACT: u32 = 1 << 16;

/// For how long a worker's queue may stand still, and how much longer than the shortest it may be, before others are served
/// or given its turns.
const PATIENCE: Duration = Duration::from_millis(4);
const SLACK: u32 = 4;

type Tell = ThreadsafeFunction<News, (), News, Status, false, true>;

/// A place for a worker that Node is about to start.
#[napi(object)]
pub struct Place {
    /// The engine's id of the worker.
    pub id: u32,
    /// The slot.
    pub slot: u32,
    /// What the worker must inherit; to be closed here once it has.
    pub fd: i32,
}

/// An address that a worker listens on.
#[napi(object)]
pub struct Listening {
    /// The engine's id of the worker.
    pub id: u32,
    /// The host, or the text of a unix address.
    pub address: String,
    /// Not for unix sockets.
    pub port: Option<u16>,
}

/// Something that the program may want to know: one of the two.
#[napi(object)]
pub struct News {
    /// A sentence about a worker that broke the rules, or about the engine itself.
    pub warning: Option<String>,
    /// It is about a worker.
    pub about_worker: bool,
    /// A worker has a share of an address.
    pub listening: Option<Listening>,
}

/// The answer to a query.
#[napi(object)]
pub struct Answer {
    /// 0, or a negative errno value.
    pub errno: i32,
    /// Names the address, also when the listener is closed.
    pub handle: u32,
    /// Names the listener.
    pub listener: u32,
    /// The address was opened for this one.
    pub is_new: bool,
    /// Where it is bound; not for unix sockets.
    pub sockname: Option<SockName>,
}

/// What is known of a worker.
#[napi(object)]
pub struct WorkerStats {
    /// The engine's id of the worker.
    pub id: u32,
    /// The slot.
    pub slot: u32,
    /// Connections that it got and that were not taken back.
    pub delivered: f64,
    /// Of those, how many it has not taken yet.
    pub waiting: u32,
    /// The load that it told last.
    pub load: u32,
    /// How far it has come.
    pub state: String,
}

/// What is known of an address.
#[napi(object)]
pub struct AddressStats {
    /// The address.
    pub address: String,
    /// How its connections reach the workers.
    pub mechanism: String,
    /// Who gets the next one.
    pub policy: String,
    /// Connections the primary accepted.
    pub accepted: f64,
    /// Connections taken back from a worker that did not take them.
    pub reclaimed: f64,
    /// Connections that were accepted and dropped, because the address was given up.
    pub lost: f64,
}

/// Everything that is known.
#[napi(object)]
pub struct Stats {
    /// By worker.
    pub workers: Vec<WorkerStats>,
    /// By address.
    pub addresses: Vec<AddressStats>,
}

struct Shared {
    primary: Mutex<Primary>,
    poller: Arc<Poller>,
    quit: AtomicBool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Primary> {
        // A panic of the other thread left a state that is valid at every step.
        self.primary.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Drives the engine. The wait is outside of the lock, so that JavaScript never waits for a connection to come.
    fn run(&self, tell: &Tell) {
        // Signals are for Node's own threads.
        let _ = nix::sys::signal::SigSet::all().thread_block();
        while !self.quit.load(Ordering::SeqCst) {
            let Ok(ready) = self.poller.wait(None) else {
                // Short of memory, as far as the manual knows: not for ever, and no reason to spin.
                std::thread::sleep(Duration::from_millis(5));
                continue;
            };
            let events = {
                let mut primary = self.lock();
                // A defect in one turn must not end the accepting for good; the state is valid at every step.
                let turn = std::panic::AssertUnwindSafe(|| primary.dispatch(&ready));
                let defect = std::panic::catch_unwind(turn).is_err();
                let mut events = primary.take_events();
                if defect {
                    events.push(Event::Warning { worker: None, text: "the engine has a defect; see above".into() });
                }
                events
            };
            for event in events {
                if let Some(news) = News::of(event) {
                    tell.call(news, ThreadsafeFunctionCallMode::NonBlocking);
                }
            }
        }
    }
}

/// The engine of a primary.
#[napi]
pub struct Engine {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[napi]
impl Engine {
    /// Starts the engine. `scheduling`: the policy's number. `mechanism`: its name. `window`: how many connections may wait
    /// for one worker; `window_most`: for one that keeps up. `keep_unattended`: for how many milliseconds an address stays
    /// open for a successor when its last worker died. `tell` is called with what the program may want to know.
    #[napi(constructor)]
    pub fn new(
        scheduling: u32,
        mechanism: String,
        window: u32,
        window_most: u32,
        keep_unattended: u32,
        tell: Function<News, ()>,
    ) -> Result<Self> {
        let mut settings = Settings::default();
        settings.policy = policy_of(scheduling);
        settings.window = window;
        settings.window_most = window_most;
        // A handler holds its worker's event loop up for longer than a server in C takes, and what waits behind it could be
        // served by a neighbour.
        settings.patience = PATIENCE;
        settings.slack = SLACK;
        settings.keep_unattended = Duration::from_millis(keep_unattended.into());
        // JavaScript refuses the names that are none.
        settings.mechanism = Mechanism::from_name(&mechanism).unwrap_or_default();
        let mut primary = Primary::new(settings.clone()).map_err(refusal)?;
        // Makes ready what needs a privilege, which the program may give up before a worker listens. That a mechanism cannot be
        // had is an error of each listen.
        let _ = primary.configure(settings);
        let poller = primary.poller();
        let shared = Arc::new(Shared { primary: Mutex::new(primary), poller, quit: AtomicBool::new(false) });
        let tell: Tell = tell.build_threadsafe_function().weak::<true>().callee_handled::<false>().build()?;
        let theirs = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("cluster-rs".into())
            .spawn(move || theirs.run(&tell))
            .map_err(|error| napi::Error::from_reason(format!("a thread could not be started: {error}")))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Makes a place for a worker.
    #[napi]
    pub fn enroll(&self) -> Result<Place> {
        let place = self.shared.lock().enroll().map_err(refusal)?;
        Ok(Place { id: place.id, slot: place.slot, fd: place.channel.into_raw_fd() })
    }

    /// The worker's process runs.
    #[napi]
    pub fn started(&self, id: u32, pid: i32) {
        // It may be gone already, which its channel tells.
        let _ = self.shared.lock().enrolled_started(id, pid);
    }

    /// The worker's process has ended, or could not be started. `in_order`: it did not fail.
    #[napi]
    pub fn ended(&self, id: u32, in_order: bool) {
        self.shared.lock().enrolled_ended(id, in_order);
    }

    /// The worker leaves in an orderly way and gets no more connections.
    #[napi]
    pub fn retire(&self, id: u32) {
        self.shared.lock().retire(id);
    }

    /// Gives a worker a share of an address; the share is on its way to it when this returns.
    #[napi]
    pub fn grant(&self, id: u32, address: String, index: u32, backlog: i32, flags: u32) -> Answer {
        let outcome = wanted(&address, index, backlog, flags).and_then(|wanted| self.shared.lock().grant(id, wanted));
        outcome.as_ref().map_or_else(Answer::refused, Answer::granted)
    }

    /// Takes a share of an address in a worker's stead.
    #[napi]
    pub fn relay(&self, id: u32, address: String, index: u32, backlog: i32, flags: u32) -> (Answer, Option<Listener>) {
        let outcome = wanted(&address, index, backlog, flags).and_then(|wanted| self.shared.lock().relay(id, wanted));
        match outcome {
            Ok(relayed) => {
                let listener = cluster_core::Listener::relaying(relayed.mailbox, relayed.granted.name);
                (Answer::granted(&relayed.granted), Some(Listener::new(listener, None)))
            }
            Err(error) => (Answer::refused(&error), None),
        }
    }

    /// Gives back a connection that was taken in a worker's stead. The descriptor stays the caller's.
    #[napi]
    pub fn put_back(&self, handle: u32, fd: i32) -> bool {
        self.shared.lock().put_back(handle, fd).is_ok()
    }

    /// A share is no longer used.
    #[napi]
    pub fn close_share(&self, id: u32, listener: u32) {
        self.shared.lock().close_share(id, listener);
    }

    /// What is known of workers and addresses.
    #[napi]
    pub fn stats(&self) -> Stats {
        let primary = self.shared.lock();
        let worker = |id| {
            let info = primary.worker_info(id).ok()?;
            Some(WorkerStats {
                id,
                slot: info.worker.slot,
                delivered: info.delivered as f64,
                waiting: info.waiting,
                load: info.load,
                state: state(info.state).into(),
            })
        };
        let address = |info: cluster_core::HandleInfo| AddressStats {
            address: bound(&info),
            mechanism: mechanism(info.mechanism).into(),
            policy: policy(info.policy).into(),
            accepted: info.stats.accepted as f64,
            reclaimed: info.stats.reclaimed as f64,
            lost: info.lost as f64,
        };
        Stats {
            workers: primary.worker_ids().into_iter().filter_map(worker).collect(),
            addresses: primary.handles().into_iter().map(address).collect(),
        }
    }

    /// Gives every address up and ends the thread.
    #[napi]
    pub fn close(&mut self) {
        self.end();
    }
}

impl Engine {
    fn end(&mut self) {
        if let Some(thread) = self.thread.take() {
            self.shared.quit.store(true, Ordering::SeqCst);
            self.shared.poller.interrupt();
            let _ = thread.join();
            self.shared.lock().give_up_all();
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.end();
    }
}

fn wanted(address: &str, index: u32, backlog: i32, flags: u32) -> cluster_core::Result<Wanted<'_>> {
    let pad_abstract = flags & PAD_ABSTRACT != 0;
    Ok(Wanted { address, index, backlog, flags: ListenFlags::from_bits(flags & !PAD_ABSTRACT)?, pad_abstract })
}

impl News {
    fn of(event: Event) -> Option<Self> {
        match event {
            Event::Warning { worker, text } => {
                let who = worker.map_or(String::new(), |worker| format!("worker {}: ", worker.id));
                let about_worker = worker.is_some();
                Some(Self { warning: Some(format!("{who}{text}")), about_worker, listening: None })
            }
            Event::Listening { worker, address, port, .. } => Some(Self {
                warning: None,
                about_worker: false,
                listening: Some(Listening { id: worker.id, address, port }),
            }),
            _ => None,
        }
    }
}

impl Answer {
    fn granted(granted: &Granted) -> Self {
        let sockname = SockName::of(granted.name);
        Self { errno: 0, handle: granted.handle, listener: granted.listener, is_new: granted.is_new, sockname }
    }

    fn refused(error: &cluster_core::Error) -> Self {
        Self { errno: error.code(), handle: 0, listener: 0, is_new: false, sockname: None }
    }
}

/// The address as it was asked for, with the port that it got; of a descriptor, what it is bound to.
fn bound(info: &cluster_core::HandleInfo) -> String {
    match (info.name.to_inet(), info.address.rsplit_once(':')) {
        (Some(name), Some(("fd", _))) => name.to_string(),
        (Some(name), Some((host, _))) => format!("{host}:{}", name.port()),
        _ => info.address.clone(),
    }
}

fn state(state: WorkerState) -> &'static str {
    match state {
        WorkerState::Starting => "none",
        WorkerState::Online => "online",
        WorkerState::Listening => "listening",
        WorkerState::Disconnecting => "disconnecting",
        _ => "disconnected",
    }
}

fn mechanism(kind: MechanismKind) -> &'static str {
    match kind {
        MechanismKind::Passed => "passed",
        MechanismKind::Kernel => "kernel",
        _ => "shared",
    }
}

/// Node refuses the numbers that are none; what they are here does not matter.
fn policy_of(number: u32) -> Policy {
    [Policy::None, Policy::LeastLoaded, Policy::SourceHash]
        .into_iter()
        .find(|policy| *policy as u32 == number)
        .unwrap_or(Policy::RoundRobin)
}

fn policy(policy: Policy) -> &'static str {
    match policy {
        Policy::None => "none",
        Policy::LeastLoaded => "least-loaded",
        Policy::SourceHash => "source-hash",
        _ => "rr",
    }
}
