//! The primary's side: the engine, on a thread of its own, and what JavaScript asks of it.

use std::os::fd::IntoRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use cluster_core::{Enrolled, Event, Granted, Mechanism, Permits, Poller, Primary, Settings};
use napi::bindgen_prelude::{Either, Function};
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use napi::{Result, Status};
use napi_derive::napi;

use crate::fleet::{DueWorker, RecycleWanted, ReloadWanted, Rollback};
use crate::keys::Keys;
use crate::listener::Listener;
use crate::stats::Stats;
use crate::told::{Allow, Answer, News, Place, Query};
use crate::{names, refusal};

/// How many connections wait for one worker. Few, because a neighbour could serve what waits behind a long handler. More only for
/// a worker that takes them within milliseconds, which saves the primary most of its wake-ups.
const WINDOW: u32 = 2;
const WINDOW_MOST: u32 = 8;
/// For how long an address stays open for a successor when its last worker died.
const KEEP_UNATTENDED: Duration = Duration::from_secs(5);
/// How long a worker's queue may stand still before others are served, and how much longer than the shortest one it may be before
/// others get its turns.
const PATIENCE: Duration = Duration::from_millis(4);
const SLACK: u32 = 4;
/// How many notices are kept. Each is about another address or slot, and workers may name any number of addresses.
const NOTICES: usize = 16;

type Tell = ThreadsafeFunction<News, (), News, Status, false, true>;

struct Shared {
    primary: Mutex<Primary>,
    keys: Mutex<Keys>,
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
                // By the manual only a lack of memory can fail here: it passes, and there is no point in spinning.
                std::thread::sleep(Duration::from_millis(5));
                continue;
            };
            let events = {
                let mut primary = self.lock();
                // A defect in one turn must not stop accepting for good; the state is valid at every step.
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
            if self.lock().has_due_enrolled() {
                tell.call(News { due: true, ..News::default() }, ThreadsafeFunctionCallMode::NonBlocking);
            }
        }
    }

    fn keys(&self) -> MutexGuard<'_, Keys> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// Wakes the thread, which passes on the events of a call made here.
    fn granted(&self, outcome: &cluster_core::Result<Granted>, keys: Option<String>) -> Answer {
        match outcome {
            Ok(granted) => {
                if granted.is_new {
                    self.poller.interrupt();
                    // Here and not in each turn, which moves connections.
                    let primary = self.lock();
                    self.keys().prune(&primary);
                }
                Answer { keys: self.keys().share(granted.handle, keys), ..Answer::granted(granted) }
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

fn place(enrolled: cluster_core::Result<Enrolled>) -> Either<Place, i32> {
    match enrolled {
        Ok(place) => Either::A(Place { id: place.id, slot: place.slot, fd: place.channel.into_raw_fd() }),
        Err(error) => Either::B(error.code()),
    }
}

#[napi]
impl Engine {
    /// Starts the engine. `policy`: its number. `mechanism`: its name. `allow`: what workers may listen on. `tell` is called with
    /// what the program may want to know.
    #[napi(constructor)]
    pub fn new(policy: u32, mechanism: String, allow: Allow, tell: Function<News, ()>) -> Result<Self> {
        let mut settings = Settings::default();
        settings.policy = names::policy_of(policy);
        settings.window = WINDOW;
        settings.window_most = WINDOW_MOST;
        // A handler blocks its worker's event loop for longer than a server in C does, and a neighbour could serve what waits.
        settings.patience = PATIENCE;
        settings.slack = SLACK;
        settings.keep_unattended = KEEP_UNATTENDED;
        // JavaScript refuses unknown names.
        settings.mechanism = Mechanism::from_name(&mechanism).unwrap_or_default();
        (settings.listen_allow, settings.listen_max) = allow.parsed()?;
        let mut primary = Primary::new(settings.clone()).map_err(refusal)?;
        // Prepares what needs a privilege, which the program may give up before a worker listens. If a mechanism cannot be had, each
        // listen fails with the error.
        let _ = primary.configure(settings);
        let poller = primary.poller();
        let shared = Arc::new(Shared {
            primary: Mutex::new(primary),
            keys: Mutex::default(),
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
        let before = self.shared.lock().settings().clone();
        let mut settings = before.clone();
        (settings.listen_allow, settings.listen_max) = allow.parsed()?;
        // Names are looked up without the lock, or the engine's thread would wait for the name server too. Only this thread changes
        // settings. Rules that are the same go on as they are: no silent name server and no folder that is gone stops a fork.
        let permits = Permits::changed(&before, &settings).map_err(refusal)?;
        self.shared.lock().configure_with(settings, permits).map_err(refusal)
    }

    /// Whether a worker may have an address that Node itself opens for it: 0, or a negative errno value.
    #[napi]
    pub fn check_listen(&self, id: u32, query: Query) -> i32 {
        let outcome = query.wanted().and_then(|wanted| self.shared.lock().check_listen(id, &wanted));
        outcome.map_or_else(|error| error.code(), |()| 0)
    }

    /// Makes a place for a worker, or says why there is none: a negative errno value.
    #[napi]
    pub fn enroll(&self) -> Either<Place, i32> {
        place(self.shared.lock().enroll())
    }

    /// The next worker that is to be made to take another's place.
    #[napi]
    pub fn take_due(&self) -> Option<DueWorker> {
        self.shared.lock().take_due_enrolled().map(DueWorker)
    }

    /// Makes the place for such a worker: or a negative errno value.
    #[napi]
    pub fn enroll_due(&self, due: &DueWorker) -> Either<Place, i32> {
        place(self.shared.lock().enroll_due(due.0))
    }

    /// Such a worker could not be made. In how many milliseconds the next attempt is made, if one is.
    #[napi]
    pub fn due_failed(&self, due: &DueWorker, reason: String) -> Option<f64> {
        let error = cluster_core::Error::new(-libc::EAGAIN, reason);
        self.shared.lock().due_enrolled_failed(due.0, &error).map(milliseconds)
    }

    /// From here on the engine replaces workers that have ended, where `followed` says so.
    #[napi]
    pub fn replace_enrolled(&self) {
        self.shared.lock().replace_enrolled();
    }

    /// From here on nobody is replaced.
    #[napi]
    pub fn replace_nobody(&self) {
        self.shared.lock().replace_nobody();
    }

    /// The worker listens on something that Node has opened for it itself.
    #[napi]
    pub fn listens(&self, id: u32, name: String) {
        self.shared.lock().enrolled_listens(id, &name);
    }

    /// The worker has told Node's primary that it is ready.
    #[napi]
    pub fn is_ready(&self, id: u32) {
        self.shared.lock().enrolled_is_ready(id);
    }

    /// From here on a worker is ready only when it has said so.
    #[napi]
    pub fn wait_for_ready(&self) -> Result<()> {
        let mut primary = self.shared.lock();
        let mut settings = primary.settings().clone();
        settings.manual_ready = true;
        primary.configure(settings).map_err(refusal)
    }

    /// Begins to replace all workers: the generation of the new ones.
    #[napi]
    pub fn reload(&self, wanted: ReloadWanted) -> Result<u32> {
        self.shared.lock().reload(&wanted.options()).map(|reloading| reloading.generation()).map_err(refusal)
    }

    /// The same, with workers that are made as those before the last reload were.
    #[napi]
    pub fn rollback(&self, wanted: ReloadWanted) -> Result<Rollback> {
        let mut primary = self.shared.lock();
        let like = primary.goes_back_to();
        let reloading = primary.roll_back(&wanted.options()).map_err(refusal)?;
        Ok(Rollback { generation: reloading.generation(), like: like.unwrap_or(0) })
    }

    /// Nobody is replaced any more.
    #[napi]
    pub fn cancel(&self) {
        self.shared.lock().cancel_reloads();
    }

    /// So many slots are to have a worker.
    #[napi]
    pub fn scale(&self, slots: u32) -> Result<()> {
        self.shared.lock().scale(slots as usize).map_err(refusal)
    }

    /// One worker is to be replaced.
    #[napi]
    pub fn restart(&self, id: u32) -> Result<()> {
        self.shared.lock().restart(id).map_err(refusal)
    }

    /// From here on workers that have done enough are replaced.
    #[napi]
    pub fn recycle(&self, wanted: RecycleWanted) -> Result<()> {
        self.shared.lock().recycle(wanted.options()).map_err(refusal)
    }

    /// The worker's process runs.
    #[napi]
    pub fn started(&self, id: u32, pid: i32) {
        // It may have ended already; its channel tells.
        let _ = self.shared.lock().enrolled_started(id, pid);
    }

    /// The worker's process has ended, or could not be started. `in_order`: it did not fail.
    #[napi]
    pub fn ended(&self, id: u32, in_order: bool) {
        self.shared.lock().enrolled_ended(id, in_order);
    }

    /// The same where the engine is to replace it, not sooner than in `least` milliseconds. In how many it does, if nobody is on the
    /// way already.
    #[napi]
    pub fn followed(&self, id: u32, least: u32) -> Option<f64> {
        self.shared.lock().enrolled_is_followed(id, Duration::from_millis(least.into())).map(milliseconds)
    }

    /// The worker leaves in an orderly way and gets no more connections.
    #[napi]
    pub fn retire(&self, id: u32) {
        self.shared.lock().retire(id);
    }

    /// Every worker is about to be retired: none of them hands its connections back to the next.
    #[napi]
    pub fn take_nothing_back(&self) {
        self.shared.lock().take_nothing_back();
    }

    /// Gives a worker a share of an address. It is on its way to the worker when this returns.
    #[napi]
    pub fn grant(&self, id: u32, query: Query) -> Answer {
        let outcome = query.wanted().and_then(|wanted| self.shared.lock().grant(id, wanted));
        self.shared.granted(&outcome, query.keys)
    }

    /// Takes a share of an address in a worker's stead.
    #[napi]
    pub fn relay(&self, id: u32, query: Query) -> (Answer, Option<Listener>) {
        let outcome = query.wanted().and_then(|wanted| self.shared.lock().relay(id, wanted));
        match outcome {
            Ok(relayed) => {
                let listener = cluster_core::Listener::relaying(relayed.mailbox, relayed.granted.name);
                (self.shared.granted(&Ok(relayed.granted), query.keys), Some(Listener::new(listener, None)))
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

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
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
