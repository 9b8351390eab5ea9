//! The primary's side: the engine, on a thread of its own, and what JavaScript asks of it.

use std::os::fd::IntoRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use cluster_core::{
    Event, Granted, ListenFlags, ListenRule, Mechanism, Permits, Policy, Poller, Primary, Settings, Wanted,
};
use napi::bindgen_prelude::Function;
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use napi::{Result, Status};
use napi_derive::napi;

use crate::listener::{Listener, SockName};
use crate::refusal;
use crate::stats::Stats;

/// A flag of JavaScript's own beside those of `ListenFlags`.
const PAD_ABSTRACT: u32 = 1 << 16;

/// For how long a worker's queue may stand still, and how much longer than the shortest it may be, before others are served
/// or given its turns.
const PATIENCE: Duration = Duration::from_millis(4);
const SLACK: u32 = 4;
/// How many notices are kept. Each is about another address or slot, of which workers may name any number.
const NOTICES: usize = 16;

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

/// What workers may listen on.
#[napi(object)]
pub struct Allow {
    /// In the engine's words; without them, anything.
    pub rules: Option<Vec<String>>,
    /// How many addresses; 0: any number.
    pub most: u32,
}

/// Something that the program may want to know: one of these.
#[napi(object)]
#[derive(Default)]
pub struct News {
    /// A sentence about a worker that broke the rules, or about the engine itself.
    pub warning: Option<String>,
    /// The warning is about a worker.
    pub about_worker: bool,
    /// A sentence that is no cause for worry; `Stats` keeps it.
    pub notice: Option<String>,
    /// A worker has a share of an address.
    pub listening: Option<Listening>,
}

/// The answer to a query.
#[napi(object)]
pub struct Answer {
    /// 0, or a negative errno value.
    pub errno: i32,
    /// Why, if it is none, in a sentence.
    pub reason: Option<String>,
    /// Names the address, also when the listener is closed.
    pub handle: u32,
    /// Names the listener.
    pub listener: u32,
    /// The address was opened for this one.
    pub is_new: bool,
    /// Where it is bound; not for unix sockets.
    pub sockname: Option<SockName>,
}

struct Shared {
    primary: Mutex<Primary>,
    notices: Mutex<Vec<String>>,
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
                if let Event::Notice { text } = &event {
                    self.keep(text);
                }
                if let Some(news) = News::of(event) {
                    tell.call(news, ThreadsafeFunctionCallMode::NonBlocking);
                }
            }
        }
    }

    fn notices(&self) -> MutexGuard<'_, Vec<String>> {
        self.notices.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a notice for whoever asks later, if it is another one.
    fn keep(&self, notice: &str) {
        let mut notices = self.notices();
        if notices.len() < NOTICES && !notices.iter().any(|kept| kept == notice) {
            notices.push(notice.to_owned());
        }
    }

    /// The thread takes what a call made here has to tell.
    fn granted(&self, outcome: &cluster_core::Result<Granted>) -> Answer {
        match outcome {
            Ok(granted) => {
                if granted.is_new {
                    self.poller.interrupt();
                }
                Answer::granted(granted)
            }
            Err(error) => Answer::refused(error),
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
    /// open for a successor when its last worker died. `allow`: what workers may listen on. `tell` is called with what the program may want to know.
    #[napi(constructor)]
    pub fn new(
        scheduling: u32,
        mechanism: String,
        window: u32,
        window_most: u32,
        keep_unattended: u32,
        allow: Allow,
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
        (settings.listen_allow, settings.listen_max) = allowed(allow)?;
        let mut primary = Primary::new(settings.clone()).map_err(refusal)?;
        // Makes ready what needs a privilege, which the program may give up before a worker listens. That a mechanism cannot be
        // had is an error of each listen.
        let _ = primary.configure(settings);
        let poller = primary.poller();
        let shared = Arc::new(Shared {
            primary: Mutex::new(primary),
            notices: Mutex::default(),
            poller,
            quit: AtomicBool::new(false),
        });
        let tell: Tell = tell.build_threadsafe_function().weak::<true>().callee_handled::<false>().build()?;
        let theirs = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("cluster-rs".into())
            .spawn(move || theirs.run(&tell))
            .map_err(|error| napi::Error::from_reason(format!("a thread could not be started: {error}")))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// What workers may listen on from now on.
    #[napi]
    pub fn allow(&self, allow: Allow) -> Result<()> {
        let mut settings = self.shared.lock().settings().clone();
        (settings.listen_allow, settings.listen_max) = allowed(allow)?;
        // Not while the primary's own thread would wait for a name server, too. Nobody but this thread changes settings.
        let permits = settings.listen_allow.as_deref().map(Permits::new).transpose().map_err(refusal)?;
        self.shared.lock().configure_with(settings, Some(permits)).map_err(refusal)
    }

    /// Whether a worker may have an address that Node itself opens for it: 0, or a negative errno value.
    #[napi]
    pub fn check_listen(&self, id: u32, address: String, index: u32) -> i32 {
        let outcome = wanted(&address, index, 0, 0).and_then(|wanted| self.shared.lock().check_listen(id, &wanted));
        outcome.map_or_else(|error| error.code(), |()| 0)
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

    /// The worker's process has ended, or could not be started. `in_order`: it did not fail. Whether it had taken a connection.
    #[napi]
    pub fn ended(&self, id: u32, in_order: bool) -> bool {
        self.shared.lock().enrolled_ended(id, in_order)
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
        self.shared.granted(&outcome)
    }

    /// Takes a share of an address in a worker's stead.
    #[napi]
    pub fn relay(&self, id: u32, address: String, index: u32, backlog: i32, flags: u32) -> (Answer, Option<Listener>) {
        let outcome = wanted(&address, index, backlog, flags).and_then(|wanted| self.shared.lock().relay(id, wanted));
        match outcome {
            Ok(relayed) => {
                let listener = cluster_core::Listener::relaying(relayed.mailbox, relayed.granted.name);
                (self.shared.granted(&Ok(relayed.granted)), Some(Listener::new(listener, None)))
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
        Stats::of(&self.shared.lock(), self.shared.notices().clone())
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

fn allowed(allow: Allow) -> Result<(Option<Vec<ListenRule>>, u32)> {
    let rules = allow.rules.map(|rules| rules.iter().map(|rule| ListenRule::parse(rule)).collect());
    Ok((rules.transpose().map_err(refusal)?, allow.most))
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
                Some(Self { warning: Some(format!("{who}{text}")), about_worker, ..Self::default() })
            }
            Event::Notice { text } => Some(Self { notice: Some(text), ..Self::default() }),
            Event::Listening { worker, address, port, .. } => {
                Some(Self { listening: Some(Listening { id: worker.id, address, port }), ..Self::default() })
            }
            _ => None,
        }
    }
}

impl Answer {
    fn granted(granted: &Granted) -> Self {
        let sockname = SockName::of(granted.name);
        let Granted { handle, listener, is_new, .. } = *granted;
        Self { errno: 0, reason: None, handle, listener, is_new, sockname }
    }

    fn refused(error: &cluster_core::Error) -> Self {
        let reason = Some(error.sentence().to_owned());
        Self { errno: error.code(), reason, handle: 0, listener: 0, is_new: false, sockname: None }
    }
}

/// Node refuses the numbers that are none; what they are here does not matter.
fn policy_of(number: u32) -> Policy {
    [Policy::None, Policy::LeastLoaded, Policy::SourceHash]
        .into_iter()
        .find(|policy| *policy as u32 == number)
        .unwrap_or(Policy::RoundRobin)
}
