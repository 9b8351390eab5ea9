//! Tells when a descriptor is readable: by the event loop itself, or by a thread if libuv's functions cannot be found.

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use napi::bindgen_prelude::Function;
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use napi::{Env, Error, Result, Status};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::uv;

/// Owns the descriptor and keeps it open.
pub(crate) type Watched = Arc<dyn AsFd + Send + Sync>;

/// Calls a function while a descriptor is readable, once in each turn of the event loop.
pub(crate) enum Watch {
    Loop(uv::Watch),
    Thread(Arc<Post>),
}

impl Watch {
    /// `scoped`: called in place of `turn` if a thread has to wait.
    pub(crate) fn start(
        env: &Env,
        watched: Watched,
        turn: &Function<(), ()>,
        scoped: &Function<(), ()>,
        on_a_thread: bool,
    ) -> Result<Self> {
        let on_the_loop = if on_a_thread { None } else { uv::Watch::start(env, &watched, turn) };
        match on_the_loop {
            Some(watch) => watch.map(Watch::Loop),
            None => watch_from_a_thread(watched, scoped).map(Watch::Thread),
        }
    }

    pub(crate) fn pause(&self) {
        match self {
            Watch::Loop(watch) => watch.pause(),
            Watch::Thread(post) => post.set(Wish::Nothing),
        }
    }

    pub(crate) fn resume(&self) {
        match self {
            Watch::Loop(watch) => watch.resume(),
            Watch::Thread(post) => post.set(Wish::Word),
        }
    }

    pub(crate) fn close(self) {
        match self {
            Watch::Loop(watch) => watch.close(),
            Watch::Thread(post) => post.set(Wish::End),
        }
    }
}

/// What the loop wants from the thread.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wish {
    Nothing,
    /// To be told when the descriptor is readable.
    Word,
    /// It has been told, and has not run yet.
    Sent,
    End,
}

type Call = ThreadsafeFunction<(), (), (), Status, false, true>;

/// Between the loop and the thread.
pub(crate) struct Post {
    wish: Mutex<Wish>,
    changed: Condvar,
    /// Ends the thread's wait.
    interrupt: UnixStream,
}

impl Post {
    fn wish(&self) -> MutexGuard<'_, Wish> {
        self.wish.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The loop has run after it was told.
    fn seen_to(&self) {
        let mut current = self.wish();
        if *current == Wish::Sent {
            *current = Wish::Word;
            self.changed.notify_one();
        }
    }

    fn set(&self, wish: Wish) {
        let mut current = self.wish();
        if *current != Wish::End {
            *current = wish;
            self.changed.notify_one();
            if wish != Wish::Word {
                // If the socket is full the thread has been interrupted already.
                let _ = std::io::Write::write(&mut &self.interrupt, &[0]);
            }
        }
    }
}

fn watch_from_a_thread(watched: Watched, turn: &Function<(), ()>) -> Result<Arc<Post>> {
    let (interrupt, interrupted) = UnixStream::pair()?;
    interrupt.set_nonblocking(true)?;
    interrupted.set_nonblocking(true)?;
    let call: Call =
        turn.build_threadsafe_function::<()>().weak::<true>().callee_handled::<false>().build_callback(|_| Ok(()))?;
    let call = Arc::new(call);
    let post = Arc::new(Post { wish: Mutex::new(Wish::Word), changed: Condvar::new(), interrupt });
    let theirs = Arc::clone(&post);
    std::thread::Builder::new()
        .name("cluster-rs wait".into())
        .spawn(move || wait(&watched, &interrupted, &theirs, &call))
        .map_err(|error| Error::from_reason(format!("a thread could not be started: {error}")))?;
    Ok(post)
}

fn wait(watched: &Watched, interrupted: &UnixStream, post: &Arc<Post>, call: &Arc<Call>) {
    loop {
        let mut wish = post.wish();
        while matches!(*wish, Wish::Nothing | Wish::Sent) {
            wish = post.changed.wait(wish).unwrap_or_else(PoisonError::into_inner);
        }
        if *wish == Wish::End {
            return;
        }
        drop(wish);
        let mut polled =
            [PollFd::new(watched.as_fd(), PollFlags::POLLIN), PollFd::new(interrupted.as_fd(), PollFlags::POLLIN)];
        let _ = poll(&mut polled, PollTimeout::NONE);
        let _ = std::io::Read::read(&mut &*interrupted, &mut [0; 64]);
        let mut wish = post.wish();
        if *wish == Wish::Word && polled[0].any() == Some(true) {
            *wish = Wish::Sent;
            drop(wish);
            take_turn(post, call);
        }
    }
}

/// Has the function called on the loop, and the descriptor looked at again afterwards.
fn take_turn(post: &Arc<Post>, call: &Call) {
    let theirs = Arc::clone(post);
    let called =
        call.call_with_return_value((), ThreadsafeFunctionCallMode::NonBlocking, move |outcome: Result<()>, _| {
            theirs.seen_to();
            // What it threw becomes an uncaught exception, which need not end the process.
            outcome
        });
    if called != Status::Ok {
        // The loop is going away.
        post.set(Wish::End);
    }
}
